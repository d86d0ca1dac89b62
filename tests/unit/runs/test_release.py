"""What goes with a version into the registry."""

from dataclasses import replace
from pathlib import Path

from tests.unit.reports import sample

from modelyard.project import Project
from modelyard.runs.journal import StageEntry
from modelyard.runs.release import pictures_of
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
