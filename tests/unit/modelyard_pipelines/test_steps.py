"""Steps as Kubeflow calls them, without Kubeflow: from the data to each of a gate's three answers."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.fakes.artifacts import FakeArtifact
from tests.fakes.registry import FakeRegistry
from tests.fakes.tracked_runs import TrackedRuns
from tests.unit.runs.test_judging import World

from modelyard.data.prepare import PreparedData
from modelyard.data.sources import source_digest
from modelyard.errors import BadInput, ModelyardError, StageFailed, Unavailable
from modelyard.runs import champion
from modelyard.runs.champion import Champion
from modelyard.runs.walk import Result, write_listing
from modelyard.spec.codec import to_json
from modelyard.spec.data import Data
from modelyard.storage.code import CodeArchive, pack
from modelyard.training.job import TrainedModel
from modelyard_pipelines import training, wiring
from modelyard_pipelines.components.ended import inconclusive, skipped
from modelyard_pipelines.components.evaluate import evaluate
from modelyard_pipelines.components.gate import gate
from modelyard_pipelines.components.look import look
from modelyard_pipelines.components.prepare import prepare
from modelyard_pipelines.components.promote import promote
from modelyard_pipelines.components.train import train

Make = Callable[[str], FakeArtifact]
TRAIN = {"recipe": {"use": "mlp"}}
ATLEAST = {"metric": "accuracy", "atLeast": 0.9}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    made = FakeRegistry()
    monkeypatch.setattr(wiring, "registry", lambda: made)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return made


@pytest.fixture
def make(tmp_path: Path) -> Make:
    (tmp_path / "artifacts").mkdir()
    return lambda name: FakeArtifact(tmp_path / "artifacts", name)


class Way:
    """The first three steps, without a training: the model's weights are written down."""

    def __init__(self, home: Path, make: Make, *, rows: int = 200) -> None:
        self._make = make
        world = World(home)
        world.write("data.csv", rows)
        self.data = {
            "source": str(home / "data.csv"),
            "splits": {"train": 0.5, "validation": 0.2, "test": 0.3},
        }
        made = make("prepared")
        source = source_digest(Data(source=self.data["source"]), base=Path("/"))
        prepare(model="m", data=self.data, source=source, prepared=made, report=make("prepared.html"))
        self.prepared = made.handed_on()
        known = json.loads((Path(made.path) / "result.json").read_text())
        self._world, self._known = world, known

    def trained(self, *, sign: float = 1.0) -> FakeArtifact:
        folder = Path(self.prepared.path)
        value = PreparedData(**{**_empty(), "facts": self._known["facts"]})
        model = self._world.model("model", Result(value=value, folder=folder, key="", cached=True), sign=sign)
        made = self._make("trained")
        (Path(made.path)).mkdir()
        model.rename(Path(made.path) / "model")
        result = TrainedModel(digest="sha256:0", epochs=(), best_epoch=0, steps=0, world_size=1, threads=1,
                              examples_per_second=1.0)  # fmt: skip
        (Path(made.path) / "result.json").write_text(to_json(result))
        write_listing(Path(made.path))
        made.metadata = {"place": "stages/train/0123456789abcdef0123"}
        return made

    def gated(self, gates: list, *, sign: float = 1.0):
        """What the gate said, and its Markdown."""
        trained = self.trained(sign=sign)
        evaluated, numbers, confusion = self._make("evaluated"), self._make("numbers"), self._make("confusion")
        evaluate(
            model="m", metrics={}, gates=gates, prepared=self.prepared, trained=trained, evaluated=evaluated,
            numbers=numbers, confusion=confusion, report=self._make("evaluated.html"),
        )  # fmt: skip
        assert numbers.numbers["accuracy"] == (1.0 if sign > 0 else 0.0)
        assert confusion.confusion[0] == ["a", "b", "c"]
        judged, reasons = self._make("judged"), self._make("reasons")
        said = gate(
            model="m", alias="champion", data=self.data, train=TRAIN, metrics={}, gates=gates, compress={}, runtime={},
            code="sha256:0", store="", prepared=self.prepared, trained=trained, evaluated=evaluated.handed_on(),
            judged=judged, reasons=reasons, report=self._make("gate.html"),
        )  # fmt: skip
        return said, judged, reasons


def _empty() -> dict:
    return {"fingerprint": "", "splits": {}, "digests": {}, "counts": {}}


def test_a_gate_that_says_yes_names_the_champion_that_it_saw(registry, make, tmp_path):
    said, judged, reasons = Way(tmp_path, make).gated([ATLEAST])
    assert (said.outcome, said.champion) == ("Passed", "")
    assert judged.metadata["outcome"] == "Passed"
    assert reasons.text().startswith("# m: Gate passed")
    page = Path(make("gate.html").path).read_text()
    assert "accuracy at least 0.9" in page
    assert "src=" not in page.replace('src="data:', "")  # nothing is loaded from elsewhere


def test_the_gate_finds_the_evaluation_of_the_step_before(registry, make, tmp_path, capsys):
    Way(tmp_path, make).gated([ATLEAST])
    told = capsys.readouterr().out.split("gate started")[1]
    assert "evaluate progress" not in told


def test_a_gate_that_says_no_is_no_failure_and_the_run_ends_as_skipped(registry, make, tmp_path):
    said, judged, _ = Way(tmp_path, make).gated([ATLEAST], sign=-1.0)
    assert (said.outcome, said.champion) == ("Failed", "")
    words = make("skipped.md")
    skipped(model="m", after="gate", judged=judged.handed_on(), words=words)
    assert words.text().startswith("# m: Gate said no")
    assert "all stages after gate are skipped" in words.text()
    assert "| accuracy at least 0.9 | 0 " in words.text()


def test_too_few_examples_are_inconclusive_which_is_a_way_out_of_its_own(registry, make, tmp_path):
    said, judged, _ = Way(tmp_path, make, rows=20).gated([{"metric": "accuracy", "atLeast": 0.9}])
    assert said.outcome == "Inconclusive"
    words = make("inconclusive.md")
    inconclusive(model="m", after="gate", judged=judged.handed_on(), words=words)
    assert words.text().startswith("# m: Gate could not decide")


def test_data_that_changed_since_the_first_step_are_refused(registry, make, tmp_path):
    """Or their result would be a cache hit for the data before (kubeflow/pipelines #13862)."""
    way = Way(tmp_path, make)
    with pytest.raises(BadInput, match="the data changed while the run went on"):
        prepare(model="m", data=way.data, source="sha256:0", prepared=make("again"), report=make("again.html"))


@pytest.mark.parametrize("gone", ["all", "one file"])
def test_a_cache_hit_on_a_deleted_artifact_is_said_with_the_way_out(registry, make, tmp_path, gone):
    """kubeflow/pipelines #7939: the server hands on what its store does not have any more."""
    way = Way(tmp_path, make)
    for path in sorted(Path(way.prepared.path).glob("*" if gone == "all" else "*.arrow")):
        path.unlink()
    with pytest.raises(Unavailable, match=r"s3://artifacts/prepared was deleted.*--no-cache"):
        way.gated([ATLEAST])


def test_an_output_is_never_written_over(registry, make, tmp_path):
    """kubeflow/pipelines #10186: iterations of a loop shared one place."""
    way = Way(tmp_path, make)
    source = source_digest(Data(source=way.data["source"]), base=Path("/"))
    with pytest.raises(BadInput, match="holds another result"):
        prepare(model="m", data=way.data, source=source, prepared=make("prepared"), report=make("again.html"))


def test_an_artifact_of_somebody_else_is_refused(registry, make, tmp_path):
    way = Way(tmp_path, make)
    way.prepared.metadata = {}
    with pytest.raises(BadInput, match="was not made by a step of ours"):
        way.gated([ATLEAST])


PAIRED = {"metric": "accuracy", "notWorseThanChampion": {"margin": 0.02}}


@pytest.mark.parametrize(
    "given",
    [
        (["a", "b"], [ATLEAST, PAIRED], "BadInput: champion never learnt c"),
        (["a", "b", "c"], [PAIRED], "it is trained"),
        (["a", "b"], [ATLEAST], "it is trained"),
    ],
    ids=["never learnt", "learnt", "no comparison"],
)
def test_a_class_that_the_champion_never_learnt_is_refused_before_training_as_on_a_laptop(
    given, registry, make, tmp_path, monkeypatch
):
    """The rules come by MLflow, from the first step of the same run: as an input they would be in the cache's key."""
    known, gates, told = given
    tracked, way = TrackedRuns(), Way(tmp_path, make)
    monkeypatch.setattr(wiring, "runs", lambda _model: tracked)
    source, code = tmp_path / "source", pack_in(tmp_path)
    wiring.put_code(code, str(source))
    sections = {"model": "m", "code": code.digest, "store": str(source), "train": TRAIN, "metrics": {}}
    look(
        **sections, promote="manual", alias="live", data=way.data, gates=gates, compress={}, runtime={},
        data_digest="", modelyard=version("modelyard"), overview=make("overview"),
    )  # fmt: skip
    with_versions(registry, "1")
    registry.move_alias("m", "live", "1", expected=None)
    monkeypatch.setattr(champion, "_unpacked", lambda *_: Champion(version="1", folder=tmp_path))
    monkeypatch.setattr(champion, "verify", lambda _folder: SimpleNamespace(facts={"classes": known}))
    monkeypatch.setattr(training, "on_kubernetes", lambda _at: trains)
    with pytest.raises(ModelyardError) as raised:
        train(
            **sections, on="kubernetes", prepared=way.prepared, trained=make("new"), numbers=make("n"), report=make("r")
        )
    assert told in f"{type(raised.value).__name__}: {raised.value}"


def pack_in(folder: Path) -> CodeArchive:
    (folder / "user").mkdir()
    (folder / "user" / "recipe.py").write_text("class Recipe: ...\n")
    return pack(folder / "user", folder / "packed")


def trains(*_: object, **__: object) -> None:
    raise StageFailed("it is trained", do="look")


def with_versions(registry: FakeRegistry, *numbers: str) -> None:
    from modelyard.registry.port import Version

    for number in numbers:
        registry.known["m", number] = Version(model="m", version=number, digest=f"sha256:{number}")


def promoted(make: Make, how: str, *, wait_s: float = 0.0, champion: str = "") -> str:
    words = make("promoted.md")
    said = promote(model="m", alias="champion", how=how, version="2", champion=champion, wait_s=wait_s, words=words)
    return f"{said.outcome}: {words.text().splitlines()[2]}"


def test_promoting_moves_the_alias_once_however_often_it_is_tried(registry, make):
    with_versions(registry, "1", "2")
    registry.move_alias("m", "champion", "1", expected=None)
    for _ in range(2):
        assert promoted(make, "automatic", champion="1") == "Promoted: champion names version 2"


def test_an_alias_that_was_moved_since_the_gate_looked_is_not_overruled(registry, make):
    from modelyard.registry.port import AliasMoved

    with_versions(registry, "1", "2", "3")
    registry.move_alias("m", "champion", "3", expected=None)
    with pytest.raises(AliasMoved):
        promoted(make, "automatic", champion="1")


def test_a_wait_for_a_person_is_bounded_and_says_what_to_do(registry, make):
    with_versions(registry, "1", "2")
    assert promoted(make, "manual", wait_s=0.05).startswith("Waiting: version 2 waits for a person: `modelyard promote")
    registry.move_alias("m", "champion", "2", expected=None)
    assert promoted(make, "manual", wait_s=60).startswith("Promoted")
