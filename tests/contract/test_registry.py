"""What every registry must do; held against the fake and a real MLflow server."""

import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from tests.fakes.registry import FakeRegistry
from tests.fakes.small_model import image_of, model_folder

from modelyard.errors import BadInput, Tampered, Unavailable
from modelyard.processes import free_port
from modelyard.registry.history import History, Reign
from modelyard.registry.port import AliasMoved, Candidate, Registry, Version
from modelyard.registry.promote import promote
from modelyard.registry.register import register
from modelyard.registry.rest import RestRegistry
from modelyard.storage.atomic import digest_bytes, digest_file
from modelyard.verdict import Reason, Verdict


class World(Protocol):
    """A registry and what others do to it behind our back."""

    registry: Registry

    def delete(self, version: Version) -> None: ...

    def spoil(self, version: Version) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.registry = FakeRegistry()

    def delete(self, version: Version) -> None:
        self.registry.delete(version.model, version.version)

    def spoil(self, version: Version) -> None:
        self.registry.spoil(version)


@dataclass
class MLflowWorld:
    registry: Any
    home: Path

    @property
    def client(self) -> Any:
        return self.registry._client

    def delete(self, version: Version) -> None:
        self.client.delete_model_version(version.model, version.version)

    def by_hand(self, first: Version, *, tags: dict[str, str]) -> None:
        """Make another version of the same LoggedModel, as a person could."""
        model_id = first.source.removeprefix("models:/")
        self.client.create_model_version(first.model, first.source, tags=tags, model_id=model_id)

    def spoil(self, version: Version) -> None:
        model_id = version.source.removeprefix("models:/")
        (archive,) = (self.home / "artifacts").rglob(f"{model_id}/**/*.mar")
        archive.write_bytes(b"other bytes")


@pytest.fixture(scope="session")
def mlflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    from modelyard.registry.server import start_mlflow

    home = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    child = start_mlflow(home, port=port)
    yield home, f"http://127.0.0.1:{port}"
    child.stop()


@pytest.fixture
def mlflow_world(mlflow_home: tuple[Path, str]) -> MLflowWorld:
    from modelyard.registry.mlflow import MLflowRegistry

    return MLflowWorld(registry=MLflowRegistry(mlflow_home[1]), home=mlflow_home[0])


@pytest.fixture(params=["fake", pytest.param("mlflow", marks=pytest.mark.process)])
def world(request: pytest.FixtureRequest) -> World:
    return FakeWorld() if request.param == "fake" else request.getfixturevalue("mlflow_world")


class OverRest(MLflowWorld):
    """What a rollout asks goes over MLflow's REST API; versions are made by its client."""

    @property
    def client(self) -> Any:
        return self.registry.maker._client


class RestAndMaker(RestRegistry):
    def __init__(self, maker: Any) -> None:
        super().__init__(maker.uri)
        self.maker = maker
        self.register, self.fetch = maker.register, maker.fetch


@pytest.fixture(params=["fake", *(pytest.param(over, marks=pytest.mark.process) for over in ("mlflow", "rest"))])
def followed(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world whose aliases, versions and tags are followed."""
    if request.param == "fake":
        yield FakeWorld()
        return
    found = request.getfixturevalue("mlflow_world")
    if request.param == "mlflow":
        yield found
        return
    registry = RestAndMaker(found.registry)
    yield OverRest(registry=registry, home=found.home)
    registry.close()


@pytest.fixture
def model() -> str:
    """A name that no other test uses: they share a server."""
    return f"digits-{secrets.token_hex(4)}"


def candidate(folder: Path, model: str, content: bytes = b"archive") -> Candidate:
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "model"
    if not made.exists():
        made.mkdir()
        (made / "model.json").write_text('{"kind": "eager"}')
    (folder / "digits.mar").write_bytes(content)
    (folder / "manifest.json").write_text("{}")
    (folder / "report.json").write_text("{}")
    return Candidate(
        model=model,
        archive=str(folder / "digits.mar"),
        digest=digest_bytes(content),
        folder=str(made),
        manifest=str(folder / "manifest.json"),
        artifacts={"evaluate.json": str(folder / "report.json")},
        metrics={"accuracy": 0.98},
        tags={"modelyard.gate": "Passed"},
    )


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


# MLflow's own


@pytest.mark.process
def test_all_aliases_of_a_registry_come_in_one_request_for_a_thousand_models(
    mlflow_world: MLflowWorld, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of versions gives no aliases (mlflow/mlflow #16734); one of models does."""
    for at, content in enumerate((b"one", b"two")):
        mlflow_world.registry.register(candidate(tmp_path / str(at), model, content))
    promote(mlflow_world.registry, model, "2", "champion")
    promote(mlflow_world.registry, model, "1", "candidate")
    rest = RestRegistry(mlflow_world.registry.uri)
    asked: list[str] = []
    send = httpx.Client.send
    monkeypatch.setattr(
        httpx.Client,
        "send",
        lambda self, request, **rest: (asked.append(str(request.url)), send(self, request, **rest))[1],
    )
    assert rest.aliases()[model] == {"champion": "2", "candidate": "1"}
    assert len(asked) == 1
    monkeypatch.setattr("modelyard.registry.rest.PAGE", 1)
    assert rest.aliases()[model] == {"champion": "2", "candidate": "1"}
    assert len(asked) > 2, "pages are followed to the last"
    rest.close()


@pytest.mark.process
def test_a_double_that_a_killed_writer_left_is_removed(mlflow_world: MLflowWorld, tmp_path: Path, model: str) -> None:
    import modelyard.registry.mlflow as home

    given = candidate(tmp_path, model)
    first = mlflow_world.registry.register(given)
    mlflow_world.by_hand(first, tags={home.DIGEST: given.digest})
    assert len(mlflow_world.registry.versions(model)) == 2
    assert mlflow_world.registry.register(given) == first
    assert len(mlflow_world.registry.versions(model)) == 2, "its writer may still be alive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, "ABANDONED_S", -10.0)
        assert mlflow_world.registry.register(given) == first
    assert len(mlflow_world.registry.versions(model)) == 1


@pytest.mark.process
def test_a_version_registered_by_hand_is_no_target(mlflow_world: MLflowWorld, tmp_path: Path, model: str) -> None:
    mlflow_world.by_hand(mlflow_world.registry.register(candidate(tmp_path, model)), tags={})
    promote(mlflow_world.registry, model, "2", "champion")
    named = mlflow_world.registry.resolve(model, "champion")
    assert isinstance(named, Verdict)
    assert named.reason == Reason.ARTIFACT_MISSING
    assert promote(mlflow_world.registry, model, "1", "champion") == "2", "the way back is open"


@pytest.mark.process
def test_the_alias_is_asked_for_in_one_request(
    mlflow_world: MLflowWorld, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    mlflow_world.registry.register(candidate(tmp_path, model))
    promote(mlflow_world.registry, model, "1", "champion")
    asked: list[str] = []
    send = requests.Session.send
    monkeypatch.setattr(
        requests.Session,
        "send",
        lambda self, request, **rest: (asked.append(request.url), send(self, request, **rest))[1],
    )
    assert isinstance(mlflow_world.registry.resolve(model, "champion"), Version)
    assert len(asked) == 1


@pytest.mark.process
def test_a_registry_that_is_away_is_told_within_seconds(tmp_path: Path, model: str) -> None:
    from modelyard.registry.mlflow import MLflowRegistry

    registry = MLflowRegistry(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    for ask in (
        lambda: registry.resolve(model, "champion"),
        lambda: registry.versions(model),
        lambda: registry.register(candidate(tmp_path, model)),
        lambda: registry.move_alias(model, "champion", "1", expected=None),
        lambda: registry.fetch(Version(model=model, version="1", digest="sha256:0", source="models:/m-1"), tmp_path),
    ):
        with pytest.raises(Unavailable, match="is away"):
            ask()
    assert time.monotonic() - began < 10
    assert not list(tmp_path.glob(".*")), "nothing is left behind"


def test_the_fake_that_is_away_says_so(model: str) -> None:
    fake = FakeRegistry()
    fake.away = True
    with pytest.raises(Unavailable):
        fake.resolve(model, "champion")


@pytest.mark.process
@pytest.mark.parametrize("installed", [True, False], ids=["where Modelyard is installed", "where only the model is"])
def test_pyfunc_loads_the_champion_in_another_process(
    mlflow_world: MLflowWorld, tmp_path: Path, model: str, installed: bool
) -> None:
    given = replace(candidate(tmp_path, model, secrets.token_bytes(8)), folder=str(model_folder(tmp_path / "real")))
    mlflow_world.registry.register(given)
    promote(mlflow_world.registry, model, "1", "champion")
    script = tmp_path / "notebook.py"
    script.write_text(
        "import sys\n"
        + ("" if installed else "sys.path[:] = [p for p in sys.path if not p.endswith('/platform')]\n")
        + "import mlflow, json, pandas as pd, importlib.util\n"
        f"mlflow.set_tracking_uri({mlflow_world.registry.uri!r})\n"
        f"champion = mlflow.pyfunc.load_model('models:/{model}@champion')\n"
        f"image = {image_of(2).tolist()!r}\n"
        "rows = champion.predict([{'image': image}, {'image': image}])\n"
        "one = champion.predict({'image': image})\n"
        "frame = champion.predict(pd.DataFrame({'image': [image]}, index=[7]))\n"
        "print(json.dumps([rows[1]['label'], one[0]['label'], frame.label[7], len(rows)]))\n"
        + (
            "import modelyard.units\n"
            if installed
            else "assert 'modelyard_carried' in sys.modules['modelyard'].__file__\n"
        )
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '["right", "right", "right", 2]'


@pytest.mark.process
def test_mlflow_answers_on_loopback_only_and_keeps_state_over_a_restart(tmp_path: Path, model: str) -> None:
    from modelyard.registry.mlflow import MLflowRegistry
    from modelyard.registry.server import start_mlflow

    made = None
    for _ in range(2):
        port = free_port()
        child = start_mlflow(tmp_path / "home", port=port)
        try:
            registry = MLflowRegistry(f"http://127.0.0.1:{port}")
            made = made or registry.register(candidate(tmp_path / "given", model))
            assert registry.versions(model) == (made,)
            assert httpx.get(f"http://127.0.0.1:{port}/", timeout=5).status_code == 200
        finally:
            child.stop()
        assert not child.alive()


# history


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
