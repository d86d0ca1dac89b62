"""A class that the champion never learnt is refused before the hours of training, in the words of the gate."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from modelyard.data.prepared import PreparedData
from modelyard.errors import BadInput
from modelyard.model.predictor import write_model_folder
from modelyard.registry.port import Version
from modelyard.runs import champion as champions
from modelyard.runs import run as subject
from modelyard.runs.champion import Champion, check_learnt
from modelyard.runs.journal import Journal, RunRecord
from modelyard.runs.release import Services
from modelyard.runs.run import Way
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Result, Silent, Walk
from modelyard.spec.codec import from_data
from modelyard.spec.project import ModelProject
from modelyard.verdict import Outcome, Reason, Verdict

COMPARED = {"metric": "accuracy", "notWorseThanChampion": {"margin": 0.02}}
ANCHORED = {"metric": "accuracy", "notWorseThanAnchor": {"version": "1", "margin": 0.02}}
ALONE = {"metric": "accuracy", "atLeast": 0.8}

KNOWN = {"1": ["ant", "bee"], "2": ["ant", "bee", "wasp"]}
"""Version → its classes."""


def project(*gates: dict[str, Any]) -> ModelProject:
    told = {"metadata": {"name": "m"}, "data": {"source": "bundled:digits"}, "train": {"recipe": {"use": "mlp"}}}
    return from_data(ModelProject, {**told, "gates": list(gates)})


class Registry:
    """Version 1 knows ant and bee; version 2, the champion, also the wasp."""

    def __init__(self, *, champion: str | None = "2") -> None:
        self.champion = champion

    def versions(self, model: str) -> tuple[Version, ...]:
        return tuple(Version(model=model, version=name, digest=f"sha256:{name}") for name in KNOWN)

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        missing = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.ALIAS_MISSING, message="none")
        return next((one for one in self.versions(model) if one.version == self.champion), missing)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(1)}, weights)
    for version, classes in KNOWN.items():
        write_model_folder(
            tmp_path / version, kind="eager", model=weights, recipe={"use": "mlp"}, facts={"classes": classes},
            inputs=["x"],
        )  # fmt: skip

    def unpacked(_registry: Any, named: Version, _into: Path) -> Champion:
        folder = tmp_path / named.version
        return Champion(version=named.version, folder=folder if folder.exists() else None)

    monkeypatch.setattr(champions, "_unpacked", unpacked)


def check(classes: list[str], *gates: dict[str, Any], champion: str | None = "2") -> None:
    check_learnt(Registry(champion=champion), project(*gates), classes, into=Path())  # type: ignore[arg-type]


def test_a_class_that_the_champion_never_learnt_is_named_with_what_to_do() -> None:
    with pytest.raises(BadInput, match=r"champion never learnt moth, so that .*Leave the comparison out"):
        check(["ant", "bee", "moth", "wasp"], ALONE, COMPARED)


def test_an_anchor_is_looked_into_as_well() -> None:
    with pytest.raises(BadInput, match="version 1 never learnt wasp"):
        check(["ant", "wasp"], COMPARED, ANCHORED)


@pytest.mark.parametrize(
    ("classes", "gates", "champion"),
    [
        (["ant", "wasp"], [COMPARED], "2"),
        (["moth"], [ALONE], "2"),
        (["moth"], [COMPARED], None),
        ([], [COMPARED], "2"),
    ],
    ids=["fewer classes", "no comparison", "no champion yet", "numbers as labels"],
)
def test_else_nothing_is_refused(classes: list[str], gates: list[dict[str, Any]], champion: str | None) -> None:
    check(classes, *gates, champion=champion)


def test_a_champion_whose_archive_is_gone_is_left_to_the_gate(tmp_path: Path) -> None:
    (tmp_path / "2").rename(tmp_path / "gone")
    check(["moth"], COMPARED)


def way(
    tmp_path: Path, *, registered: str | None, until: Stage | None = None, shared: bool = False, gate: Any = COMPARED
) -> Way:
    journal, asked = Journal(tmp_path), project(gate)
    if registered:
        journal.keep(RunRecord(id="0", started_at=0.0, project=asked, version=registered))
    walk = Walk(
        state=tmp_path, journal=journal, run=journal.begin(asked, "sha256:c"), observer=Silent(), first=None,
        until=until,
    )  # fmt: skip
    services = Services(
        registry=Registry,  # type: ignore[arg-type]
        records=never, tracking=never, alive=never, own=not shared,
    )  # fmt: skip
    return Way(walk=walk, project=asked, base=tmp_path, code=None, services=services, trainer=never)  # type: ignore[arg-type]


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it was trained")


def with_moths(tmp_path: Path) -> Result[PreparedData]:
    value = PreparedData(
        fingerprint="sha256:f", splits={}, digests={}, facts={"classes": ["ant", "moth"]}, counts={}, location=""
    )
    return Result(value=value, folder=tmp_path, key="k", cached=False)


@pytest.mark.parametrize(
    ("registered", "shared"), [("2", False), (None, True)], ids=["a laptop's second run", "shared"]
)
def test_a_run_is_refused_before_anything_is_trained(tmp_path: Path, registered: str | None, shared: bool) -> None:
    with pytest.raises(BadInput, match="champion never learnt moth"):
        way(tmp_path, registered=registered, shared=shared).train(with_moths(tmp_path))


@pytest.mark.parametrize(
    ("registered", "until", "gate"),
    [(None, None, COMPARED), ("2", Stage.TRAIN, COMPARED), ("2", None, ALONE)],
    ids=["a first run", "no gate is asked", "no gate compares"],
)
def test_a_run_with_nothing_to_compare_with_does_not_wait_for_the_registry(
    tmp_path: Path, registered: str | None, until: Stage | None, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "check_learnt", never)
    way(tmp_path, registered=registered, until=until, gate=gate).check_classes(with_moths(tmp_path))
