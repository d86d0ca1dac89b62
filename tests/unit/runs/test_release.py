"""What goes with a version into the registry."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.unit.reports import sample

from modelyard.errors import Unavailable
from modelyard.project import Project
from modelyard.runs.journal import StageEntry
from modelyard.runs.release import Release, Services, pictures_of
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Walk
from modelyard.spec.codec import to_json


def test_a_version_carries_its_verdicts_and_plots_where_people_look(tmp_path: Path) -> None:
    """They lie among its artifacts in MLflow, beside evaluation and evidence."""
    (tmp_path / "modelyard.yaml").write_text("""
metadata: {name: small}
data: {source: bundled:digits}
train: {recipe: {use: "recipe.py:Recipe"}}
gates: [{metric: accuracy, atLeast: 0.1}]
""")
    project, view = Project.load(tmp_path), sample.view(good=True)
    entries = []
    for stage, result in ((Stage.EVALUATE, view.evaluation), (Stage.GATE, view.gates)):
        (project.state / stage).mkdir(parents=True)
        (project.state / stage / "result.json").write_text(to_json(result))
        entries.append(StageEntry(stage=stage, folder=stage.value))
    run = replace(project.journal.begin(project.spec, "sha256:0"), stages=tuple(entries))
    walk = Walk(state=project.state, journal=project.journal, run=run, observer=None, first=None, until=None)  # type: ignore[arg-type]
    files = pictures_of(walk)
    assert set(files) == {"gates.html", "confusion.svg", "calibration.svg"}
    assert "accuracy" in Path(files["gates.html"]).read_text()
    assert {Path(path).parent for path in files.values()} == {project.state / "runs" / run.id}


def test_the_plot_of_a_rollout_that_ended_joins_them_and_is_missed_by_nobody_where_mlflow_is_away(
    tmp_path: Path,
) -> None:
    (tmp_path / "modelyard.yaml").write_text("""
metadata: {name: small}
data: {source: bundled:digits}
train: {recipe: {use: "recipe.py:Recipe"}}
""")
    project, view, kept = Project.load(tmp_path), sample.view(good=False), dict[str, str]()
    run = project.journal.begin(project.spec, "sha256:0")
    walk = Walk(state=project.state, journal=project.journal, run=run, observer=None, first=None, until=None)  # type: ignore[arg-type]

    class Registry:
        def keep(self, version: Any, reports: dict[str, str]) -> None:
            kept.update(reports)

    def away() -> Any:
        raise Unavailable("MLflow is away", do="start it")

    for registry in (Registry, away):
        services = Services(registry=registry, records=lambda: None, tracking=lambda: None, alive=lambda: True)
        assert view.rollout is not None
        Release(walk=walk, project=project.spec, services=services).keep_pictures(view.version, view.rollout)  # type: ignore[arg-type]
    assert set(kept) == {"canary.svg"}
    assert "evidence" in Path(kept["canary.svg"]).read_text().lower()
