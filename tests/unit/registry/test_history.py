"""Who was champion when."""

from pathlib import Path

from modelyard.registry.history import History, Reign


def test_history_keeps_each_change_once_and_in_order(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    for at, version in enumerate(["1", "1", "2", "2", "1", "3"]):
        history.note(Reign(at=float(at), model="digits", alias="champion", version=version))
    assert [reign.version for reign in history.all("digits")] == ["1", "2", "1", "3"]
    before = history.before("digits", "champion")
    assert before is not None
    assert before.version == "1"


def test_history_survives_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.note(Reign(at=1.0, model="digits", alias="champion", version="1"))
    with (tmp_path / "digits.jsonl").open("a") as file:
        file.write('{"at": 2.0, "mod')
    history.note(Reign(at=3.0, model="digits", alias="champion", version="2"))
    assert [reign.version for reign in history.all("digits")] == ["1", "2"]


def test_history_of_two_aliases_does_not_mix(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.note(Reign(at=1.0, model="digits", alias="champion", version="1"))
    history.note(Reign(at=2.0, model="digits", alias="candidate", version="2"))
    last = history.last("digits", "champion")
    assert last is not None
    assert last.version == "1"
    assert history.before("digits", "champion") is None
