"""What every registry must do; held against the fake and a real MLflow server."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.registries import World, candidate
from tests.fakes.registry import FakeRegistry

from modelyard.errors import BadInput, Tampered, Unavailable
from modelyard.registry.port import AliasMoved, Candidate, Version
from modelyard.registry.promote import promote
from modelyard.registry.register import register
from modelyard.storage.atomic import digest_bytes, digest_file
from modelyard.verdict import Reason, Verdict


def test_a_registered_version_carries_its_digest_tags_and_metrics(world: World, tmp_path: Path, model: str) -> None:
    made = world.registry.register(candidate(tmp_path, model))
    assert (made.model, made.version, made.digest) == (model, "1", digest_bytes(b"archive"))
    assert made.tags["modelyard.gate"] == "Passed"
    assert made.tags["modelyard.metric.accuracy"] == "0.98"
    assert world.registry.versions(model) == (made,)


def test_registering_twice_gives_one_version(world: World, tmp_path: Path, model: str) -> None:
    first = world.registry.register(candidate(tmp_path, model))
    again = world.registry.register(candidate(tmp_path, model))
    other = world.registry.register(candidate(tmp_path / "other", model, b"other"))
    assert again == first
    assert [version.version for version in world.registry.versions(model)] == ["1", "2"]
    assert other.version == "2"


def test_four_that_register_one_digest_at_once_get_one_version(world: World, tmp_path: Path, model: str) -> None:
    """Two registrations race for one version number (mlflow PR #22635); search-then-create made four versions."""
    candidates = [candidate(tmp_path / str(at), model) for at in range(4)]
    gate = threading.Barrier(4)

    def one(given: Candidate) -> Version:
        gate.wait()
        return world.registry.register(given)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(one, candidates))
    assert {version.version for version in made} == {world.registry.versions(model)[0].version}
    assert len(world.registry.versions(model)) == 1


def test_the_stage_register_lets_candidate_name_the_version(world: World, tmp_path: Path, model: str) -> None:
    made = register(world.registry, candidate(tmp_path, model))
    named = world.registry.resolve(model, "candidate")
    assert isinstance(named, Version)
    assert (named.version, named.digest) == (made.version, made.digest)


def test_an_alias_that_is_not_there_is_a_verdict(followed: World, tmp_path: Path, model: str) -> None:
    nothing = followed.registry.resolve(model, "champion")
    assert isinstance(nothing, Verdict)
    assert nothing.reason == Reason.ALIAS_MISSING
    followed.registry.register(candidate(tmp_path, model))
    nothing = followed.registry.resolve(model, "champion")
    assert isinstance(nothing, Verdict)
    assert nothing.reason == Reason.ALIAS_MISSING


def test_an_alias_whose_version_was_deleted_names_nothing(followed: World, tmp_path: Path, model: str) -> None:
    """An alias dangles after its version is deleted (mlflow PR #24825)."""
    made = followed.registry.register(candidate(tmp_path, model))
    followed.registry.move_alias(model, "champion", made.version, expected=None)
    followed.delete(made)
    named = followed.registry.resolve(model, "champion")
    assert isinstance(named, Verdict)
    assert named.reason in (Reason.ALIAS_MISSING, Reason.VERSION_MISSING)
    again = followed.registry.register(candidate(tmp_path, model))
    followed.registry.move_alias(model, "champion", again.version, expected=None)


def test_an_alias_moves_only_from_where_it_was_expected(followed: World, tmp_path: Path, model: str) -> None:
    for at, content in enumerate((b"one", b"two")):
        followed.registry.register(candidate(tmp_path / str(at), model, content))
    followed.registry.move_alias(model, "champion", "1", expected=None)
    with pytest.raises(AliasMoved, match=r"names version 1, not nothing") as moved:
        followed.registry.move_alias(model, "champion", "2", expected=None)
    assert moved.value.now == "1"
    followed.registry.move_alias(model, "champion", "2", expected="1")
    followed.registry.move_alias(model, "champion", "2", expected="1")  # there already: may be repeated
    named = followed.registry.resolve(model, "champion")
    assert isinstance(named, Version)
    assert named.version == "2"


def test_a_report_comes_back_as_it_was_registered(world: World, tmp_path: Path, model: str) -> None:
    (tmp_path / "gate.json").write_text('{"verdict": "Passed"}')
    given = replace(candidate(tmp_path, model), artifacts={"gate.json": str(tmp_path / "gate.json")})
    made = world.registry.register(given)
    there = world.registry.report(made, "gate.json", tmp_path / "into")
    assert there.read_text() == '{"verdict": "Passed"}'
    with pytest.raises(BadInput, match=r"Version 1 of .* has no evidence\.json"):
        world.registry.report(made, "evidence.json", tmp_path / "into")


def test_a_report_that_comes_later_is_kept_beside_the_others(world: World, tmp_path: Path, model: str) -> None:
    made = world.registry.register(candidate(tmp_path, model))
    for text in ("<svg>1</svg>", "<svg>2</svg>"):
        (tmp_path / "canary.svg").write_text(text)
        world.registry.keep(made, {"canary.svg": str(tmp_path / "canary.svg")})
    assert world.registry.report(made, "canary.svg", tmp_path / "into").read_text() == "<svg>2</svg>"
    assert world.registry.report(made, "evaluate.json", tmp_path / "into").read_text() == "{}"
    assert world.registry.fetch(made, tmp_path / "into").read_bytes() == b"archive"
    gone = replace(made, version="5", source="models:/m-00000000000000000000000000000000")
    with pytest.raises(BadInput, match="Version 5"):
        world.registry.keep(gone, {"canary.svg": str(tmp_path / "canary.svg")})


def test_promote_moves_an_alias_from_wherever_it_was(world: World, tmp_path: Path, model: str) -> None:
    for at, content in enumerate((b"one", b"two")):
        world.registry.register(candidate(tmp_path / str(at), model, content))
    assert promote(world.registry, model, "1", "champion") is None
    assert promote(world.registry, model, "2", "champion") == "1"
    assert promote(world.registry, model, "1", "champion") == "2"


def test_an_alias_cannot_name_a_version_that_is_not_there(followed: World, tmp_path: Path, model: str) -> None:
    followed.registry.register(candidate(tmp_path, model))
    with pytest.raises(BadInput, match="has no version 7"):
        followed.registry.move_alias(model, "champion", "7", expected=None)


@pytest.mark.parametrize("alias", ["latest", "Latest", "v7", "V12", "", "a/b", "a:b"])
def test_a_reserved_or_impossible_alias_is_refused(followed: World, tmp_path: Path, model: str, alias: str) -> None:
    followed.registry.register(candidate(tmp_path, model))
    with pytest.raises(BadInput, match="alias"):
        followed.registry.move_alias(model, alias, "1", expected=None)


@pytest.mark.parametrize("name", ["a/b", "a:b", "", "../up", "two words"])
def test_a_model_name_that_breaks_addresses_is_refused(world: World, tmp_path: Path, name: str) -> None:
    """`/` and `:` in names (mlflow PR #21458)."""
    with pytest.raises(BadInput, match="no name of a model"):
        world.registry.register(candidate(tmp_path, name))
    with pytest.raises(BadInput, match="no name of a model"):
        world.registry.versions(name)


def test_tags_are_added_and_overwritten(followed: World, tmp_path: Path, model: str) -> None:
    followed.registry.register(candidate(tmp_path, model))
    for value in ("Failed", "AnalysisFailed: p90 412 ms > 250 ms"):
        followed.registry.tag(model, "1", {"modelyard.verdict": value})
    (version,) = followed.registry.versions(model)
    assert version.tags["modelyard.verdict"] == "AnalysisFailed: p90 412 ms > 250 ms"
    assert version.tags["modelyard.gate"] == "Passed"


def test_a_version_that_is_not_there_cannot_be_tagged(followed: World, tmp_path: Path, model: str) -> None:
    followed.registry.register(candidate(tmp_path, model))
    with pytest.raises(BadInput, match="has no version 9"):
        followed.registry.tag(model, "9", {"modelyard.verdict": "Failed"})


def test_the_archive_comes_back_byte_by_byte(world: World, tmp_path: Path, model: str) -> None:
    made = world.registry.register(candidate(tmp_path, model))
    path = world.registry.fetch(made, tmp_path / "into")
    assert digest_file(path) == made.digest
    assert world.registry.fetch(made, tmp_path / "into") == path


def test_an_archive_that_was_changed_is_never_handed_out(world: World, tmp_path: Path, model: str) -> None:
    made = world.registry.register(candidate(tmp_path, model))
    world.spoil(made)
    with pytest.raises(Tampered, match="version 1"):
        world.registry.fetch(made, tmp_path / "into")
    assert not list((tmp_path / "into").rglob("*.mar")) if (tmp_path / "into").exists() else True


def test_a_version_without_an_archive_is_refused(world: World, tmp_path: Path, model: str) -> None:
    made = world.registry.register(candidate(tmp_path, model))
    gone = replace(made, version="5", source="models:/m-00000000000000000000000000000000")
    with pytest.raises(BadInput, match="no archive"):
        world.registry.fetch(gone, tmp_path / "into")


def test_an_archive_that_differs_from_its_digest_is_not_registered(world: World, tmp_path: Path, model: str) -> None:
    given = candidate(tmp_path, model)
    Path(given.archive).write_bytes(b"changed since")
    with pytest.raises(Tampered, match="not sha256"):
        world.registry.register(given)
    assert world.registry.versions(model) == ()


def test_a_missing_report_is_named_and_nothing_registered(world: World, tmp_path: Path, model: str) -> None:
    given = candidate(tmp_path, model)
    (tmp_path / "report.json").unlink()
    with pytest.raises(BadInput, match=r"evaluate\.json"):
        world.registry.register(given)
    assert world.registry.versions(model) == ()


def test_the_fake_that_is_away_says_so(model: str) -> None:
    fake = FakeRegistry()
    fake.away = True
    with pytest.raises(Unavailable):
        fake.resolve(model, "champion")
