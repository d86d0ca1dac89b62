"""A walk takes results that are there whole and makes the others."""

from pathlib import Path

import pytest

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.runs.journal import Journal, RunState
from modelyard.runs.stages import Stage, stage_key
from modelyard.runs.walk import UntilReached, Walk
from modelyard.spec.codec import from_data
from modelyard.spec.project import ModelProject
from modelyard.verdict import Outcome, Reason, Verdict

PROJECT = from_data(
    ModelProject,
    {"metadata": {"name": "m"}, "data": {"source": "bundled:digits"}, "train": {"recipe": {"use": "recipe.py:R"}}},
)


@record
class Made:
    """What a stage of these tests makes."""

    number: int


class Watching:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def on_event(self, stage: str, state: str, message: str, fraction: float | None) -> None:
        self.events.append((stage, state))


def a_walk(tmp_path: Path, *, first: Stage | None = None, until: Stage | None = None) -> tuple[Walk, Watching]:
    journal = Journal(tmp_path)
    watching = Watching()
    run = journal.begin(PROJECT, "sha256:0")
    return Walk(state=tmp_path, journal=journal, run=run, observer=watching, first=first, until=until), watching


def make(walk: Walk, calls: list[int], *, settings: dict[str, object] | None = None) -> Made:
    def act(out: Path) -> Made:
        calls.append(1)
        (out / "weights").write_bytes(b"12345")
        return Made(number=len(calls))

    return walk.result(Stage.PREPARE, Made, settings or {"a": 1}, act).value


def test_a_result_is_made_once_and_then_taken_from_disk(tmp_path: Path) -> None:
    calls: list[int] = []
    first = make(a_walk(tmp_path)[0], calls)
    again = make(a_walk(tmp_path)[0], calls)
    assert (first, again, len(calls)) == (Made(number=1), Made(number=1), 1)


def test_other_settings_make_another_result(tmp_path: Path) -> None:
    calls: list[int] = []
    make(a_walk(tmp_path)[0], calls)
    make(a_walk(tmp_path)[0], calls, settings={"a": 2})
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["removed", "truncated", "unfinished"])
def test_a_result_whose_files_are_not_all_there_is_made_again(tmp_path: Path, damage: str) -> None:
    """A cache hit on an artifact that was deleted: kubeflow/pipelines #7939."""
    calls: list[int] = []
    make(a_walk(tmp_path)[0], calls)
    (weights,) = tmp_path.glob("stages/prepare/*/weights")
    if damage == "removed":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(b"1")
    else:
        (weights.parent / "done.json").unlink()
    make(a_walk(tmp_path)[0], calls)
    assert len(calls) == 2


def test_from_a_stage_makes_it_again_although_it_is_there(tmp_path: Path) -> None:
    calls: list[int] = []
    make(a_walk(tmp_path)[0], calls)
    walk, _ = a_walk(tmp_path, first=Stage.PREPARE)
    make(walk, calls)
    make(walk, calls)  # asked for twice within one run: made once
    assert len(calls) == 2


def test_what_was_begun_and_not_ended_is_begun_anew_unless_it_can_resume(tmp_path: Path) -> None:
    seen: list[bool] = []

    def killed(out: Path) -> Made:
        (out / "half").touch()
        raise KeyboardInterrupt

    def look(out: Path) -> Made:
        seen.append((out / "half").exists())
        return Made(number=1)

    for stage, resumable in ((Stage.PREPARE, False), (Stage.TRAIN, True)):
        walk, _ = a_walk(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            walk.result(stage, Made, {}, killed, resumable=resumable)
        walk.result(stage, Made, {}, look, resumable=resumable)
    assert seen == [False, True]


def test_the_last_stage_asked_for_ends_the_walk_and_is_written_down(tmp_path: Path) -> None:
    walk, watching = a_walk(tmp_path, until=Stage.TRAIN)
    walk.note(Stage.PREPARE, began=walk.begin(Stage.PREPARE), message="done")
    with pytest.raises(UntilReached):
        walk.note(Stage.TRAIN, began=walk.begin(Stage.TRAIN), message="done")
    kept = Journal(tmp_path).get(walk.run.id)
    assert [entry.stage for entry in kept.stages] == [Stage.PREPARE, Stage.TRAIN]
    assert watching.events[-1] == ("train", "done")


def test_a_verdict_that_says_no_does_not_end_the_walk_as_reached(tmp_path: Path) -> None:
    walk, watching = a_walk(tmp_path, until=Stage.GATE)
    no = Verdict(outcome=Outcome.FAILED, reason=Reason.WORSE, message="0.5 < 0.9")
    walk.note(Stage.GATE, began=walk.begin(Stage.GATE), message=no.message, verdict=no)
    assert watching.events[-1] == ("gate", "refused")


def test_a_run_that_was_killed_is_found_as_running(tmp_path: Path) -> None:
    walk, _ = a_walk(tmp_path)
    assert Journal(tmp_path).get(walk.run.id).state == RunState.RUNNING


def test_a_key_depends_on_each_setting_and_not_on_their_order() -> None:
    key = stage_key(Stage.TRAIN, {"a": 1, "b": 2})
    assert key == stage_key(Stage.TRAIN, {"b": 2, "a": 1})
    assert len({key, stage_key(Stage.TRAIN, {"a": 2, "b": 2}), stage_key(Stage.PREPARE, {"a": 1, "b": 2})}) == 3


def test_a_record_that_cannot_be_read_holds_up_no_other_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "20200101-000000").mkdir(parents=True)
    (tmp_path / "runs" / "20200101-000000" / "run.json").write_text('{"id": "of another Modelyard"}')
    journal = Journal(tmp_path)
    run = journal.begin(PROJECT, "sha256:0")
    assert [one.id for one in journal.all()] == [run.id]
    with pytest.raises(BadInput, match=r"20200101-000000/run.json: startedAt"):
        journal.get("20200101-000000")
