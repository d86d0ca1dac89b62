"""What the rules of a gate ask for is evaluated now, once for each pair of digests, and kept."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from modelyard.data.prepare import prepare
from modelyard.data.prepared import PreparedData
from modelyard.errors import BadInput
from modelyard.evaluation.evidence import Beside, Evidence, Folds
from modelyard.model.facts import Facts
from modelyard.model.predictor import write_model_folder
from modelyard.model.recipe import recipe_in
from modelyard.registry.port import Version
from modelyard.runs import champion as champions
from modelyard.runs import judging as subject
from modelyard.runs.champion import Champion
from modelyard.runs.journal import Journal
from modelyard.runs.judging import DIGEST_OF, EVIDENCE, Judging
from modelyard.runs.walk import Result, Silent, Walk
from modelyard.spec.codec import from_data, from_json, to_json
from modelyard.spec.project import ModelProject
from modelyard.storage.atomic import digest_bytes
from modelyard.verdict import Outcome, Reason, Verdict

RULES = {
    "champion": {"metric": "accuracy", "notWorseThanChampion": {"margin": 0.1}},
    "anchor": {"metric": "accuracy", "notWorseThanAnchor": {"version": "1", "margin": 0.1}},
    "overfit": {"metric": "accuracy", "maxOverfit": 0.5},
    "golden": {"noRegressionOn": "golden.csv"},
    "folds": {
        "metric": "accuracy",
        "notWorseThanChampion": {"margin": 0.1},
        "crossValidated": {"folds": 2, "repeats": 1},
    },
}


class World:
    """A project with data, models that need no training, and a registry that names folders."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.asked: list[tuple[str, str]] = []
        self.write("data.csv", 200)
        self.write("golden.csv", 9, shift=0.00003)
        self.registered: Mapping[str, Path] = {}
        self.evidence = self.kept = b""
        """Of the registered versions: as their tags say, and as it is."""

    def write(self, name: str, rows: int, *, shift: float = 0.0) -> None:
        lines = [
            f"{(at % 3 == 0) + at / 1e4 + shift},{(at % 3 == 1) + at / 1e4 + shift},{'abc'[at % 3]}"
            for at in range(rows)
        ]
        (self.home / name).write_text("x,y,label\n" + "\n".join(lines) + "\n")

    def project(self, *rules: str) -> ModelProject:
        return from_data(
            ModelProject,
            {
                "metadata": {"name": "m"},
                "data": {"source": "data.csv", "splits": {"train": 0.5, "validation": 0.2, "test": 0.3}},
                "train": {"recipe": {"use": "mlp"}},
                "gates": [RULES[name] for name in rules],
            },
        )

    def data(self, project: ModelProject, name: str = "data") -> Result[PreparedData]:
        made = prepare(project.data, base=self.home, out=self.home / name)
        return Result(value=made, folder=self.home / name, key=name, cached=False)

    def model(self, name: str, data: Result[PreparedData], *, sign: float = 1.0) -> Path:
        """A linear model that tells the corners apart; with sign −1 it is always wrong."""
        facts = Facts.from_json(data.value.facts) if hasattr(Facts, "from_json") else Facts(**data.value.facts)
        with recipe_in(self.home, "mlp", {"hidden": []}, facts) as recipe:
            net = recipe.model()
            inputs = recipe.inputs(net)
            weights = {key: torch.zeros_like(value) for key, value in net.state_dict().items()}
        key = next(key for key, value in weights.items() if value.ndim == 2)
        weights[key] = sign * torch.tensor([[6.0, -6.0], [-6.0, 6.0], [-6.0, -6.0]])
        save_file(weights, self.home / f"{name}.safetensors")
        write_model_folder(
            self.home / name, kind="eager", model=self.home / f"{name}.safetensors",
            recipe={"use": "mlp", "with": {"hidden": []}}, facts=facts, inputs=inputs, code=None,
        )  # fmt: skip
        return self.home / name

    def judging(self, project: ModelProject, data: Result[PreparedData]) -> Judging:
        state = self.home / "state"
        journal = Journal(state)
        run = journal.begin(project, "sha256:c")
        walk = Walk(state=state, journal=journal, run=run, observer=Silent(), first=None, until=None)
        return Judging(
            walk=walk, project=project, base=self.home, registry=lambda: self, data=data, job=lambda: None,  # type: ignore[arg-type, return-value]
        )  # fmt: skip

    def versions(self, model: str) -> tuple[Version, ...]:
        tags = {DIGEST_OF[EVIDENCE]: digest_bytes(self.evidence)} if self.evidence else {}
        return tuple(Version(model=model, version=number, digest="sha256:0", tags=tags) for number in self.registered)

    def report(self, version: Version, name: str, into: Path) -> Path:
        if not self.kept:
            raise BadInput(f"Version {version.version} has no {name}", do="name another")
        into.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(self.kept)
        return into / name


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    evaluate = subject.evaluate

    def counted(model: Path, data: Path, split: str, **more: Any) -> Any:
        made.asked.append((model.name, split))
        return evaluate(model, data, split, **more)

    monkeypatch.setattr(subject, "evaluate", counted)
    monkeypatch.setattr(
        champions, "_unpacked", lambda _r, named, _into=None, **_: Champion(folder=made.registered[named.version])
    )
    return made


def test_both_sides_are_evaluated_on_all_that_the_rules_ask_for_and_it_is_kept(world: World) -> None:
    project = world.project("champion", "anchor", "overfit", "golden")
    data = world.data(project)
    mine, theirs = world.model("mine", data), world.model("theirs", data)
    world.registered = {"1": world.model("first", data, sign=-1.0)}
    result = world.judging(project, data).judge(mine, Champion(version="2", folder=theirs), project.gates)
    assert result.value.verdict.outcome == Outcome.PASSED, result.value.verdict.message
    assert sorted(world.asked) == [
        ("first", "test"),
        ("mine", "golden"),
        ("mine", "test"),
        ("mine", "train"),
        ("mine", "validation"),
    ]  # fmt: skip  - `theirs` has the same digest as `mine`
    kept = from_json(Evidence, (result.folder / EVIDENCE).read_text())
    assert set(kept.beside.splits) == {"train", "validation"}
    assert set(kept.beside.golden) == {"golden.csv"}
    assert result.value.rules[1].difference.value == 1.0  # type: ignore[union-attr]


def test_what_was_evaluated_is_not_evaluated_again(world: World) -> None:
    project = world.project("champion", "overfit")
    data = world.data(project)
    mine = world.model("mine", data)
    for _ in range(2):
        again = world.judging(project, data).judge(mine, Champion(), project.gates)
    assert again.cached
    assert len(world.asked) == 3


def test_a_changed_test_set_is_noticed_and_both_sides_are_evaluated_anew(world: World) -> None:
    project = world.project("champion")
    data = world.data(project)
    mine, theirs = world.model("mine", data), world.model("theirs", data, sign=-1.0)
    world.judging(project, data).judge(mine, Champion(version="1", folder=theirs), project.gates)
    world.write("data.csv", 240)
    other = world.data(project, "other")
    result = world.judging(project, other).judge(mine, Champion(version="1", folder=theirs), project.gates)
    assert sorted(world.asked) == [("mine", "test"), ("mine", "test"), ("theirs", "test"), ("theirs", "test")]
    assert result.value.rules[0].examples > 0.3 * 240 - 5


def test_a_champion_whose_archive_is_gone_and_an_anchor_that_is_not_registered_never_pass(world: World) -> None:
    project = world.project("champion", "anchor", "golden")
    data = world.data(project)
    gone = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.CHAMPION_UNAVAILABLE, message="version 2 has no archive")
    result = world.judging(project, data).judge(world.model("mine", data), Champion(missing=gone), project.gates)
    assert [one.verdict.outcome for one in result.value.rules] == [Outcome.INCONCLUSIVE] * 3
    assert [one.verdict.reason for one in result.value.rules] == [
        Reason.CHAMPION_UNAVAILABLE, Reason.VERSION_MISSING, Reason.CHAMPION_UNAVAILABLE,
    ]  # fmt: skip
    assert "notWorseThanAnchor names version 1, which is not registered (there are: none yet)" in str(result.value)


def test_a_golden_set_that_was_trained_on_is_refused(world: World) -> None:
    project = world.project("golden")
    data = world.data(project)
    (world.home / "golden.csv").write_text((world.home / "data.csv").read_text())
    with pytest.raises(BadInput, match=r"examples of golden\.csv were trained on"):
        world.judging(project, data).judge(world.model("mine", data), Champion(), project.gates)


def test_rules_of_another_metric_are_another_gate(world: World) -> None:
    project = world.project("champion")
    data = world.data(project)
    judging, mine = world.judging(project, data), world.model("mine", data)
    one = judging.judge(mine, Champion(), project.gates)
    other = judging.judge(mine, Champion(), (replace(project.gates[0], metric="f1-macro"),))
    assert one.key != other.key


def test_a_cross_validation_is_compared_with_what_the_champions_own_gate_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = world.project("folds")
    data = world.data(project)
    mine, theirs = world.model("mine", data), world.model("theirs", data)
    judging, champion = world.judging(project, data), Champion(version="2", folder=theirs)
    world.registered = {"2": theirs}
    report = judging.report(mine).value
    folds = Folds(reports=(report, report), test_to_train=1.0)
    monkeypatch.setattr(subject, "cross_validated", lambda *_, **__: folds)

    without = judging.judge(mine, champion, project.gates).value.verdict
    assert without.outcome == Outcome.INCONCLUSIVE
    assert "version 2 has no evidence to compare with" in without.message

    world.evidence = to_json(Evidence(candidate=report, beside=Beside(folds={"2x1": folds}))).encode()
    world.kept = world.evidence.replace(b"accuracy", b"Accuracy", 1)
    changed = judging.judge(mine, champion, project.gates).value.verdict
    assert "is not what was registered" in changed.message

    world.kept = world.evidence
    result = judging.judge(mine, champion, project.gates)
    assert result.value.verdict.outcome == Outcome.PASSED, result.value.verdict.message
    assert set(from_json(Evidence, (result.folder / EVIDENCE).read_text()).beside.champion_folds) == {"2x1"}
