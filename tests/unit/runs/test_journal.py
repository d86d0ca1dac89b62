"""What a run did, and what is said of one that could not say so itself."""

from dataclasses import replace
from pathlib import Path

from modelyard.project import Project
from modelyard.runs.journal import UNSAID, Journal, RunRecord, RunState
from modelyard.runs.lock import exclusive
from modelyard.spec.project import ModelProject

TEXT = """
metadata: {name: small}
data: {source: bundled:digits}
train: {recipe: {use: "recipe.py:Recipe"}}
gates: [{metric: accuracy, atLeast: 0.1}]
"""


def project_with(folder: Path, state: RunState) -> tuple[Project, RunRecord]:
    (folder / "modelyard.yaml").write_text(TEXT)
    project = Project.load(folder)
    begun = project.journal.begin(project.spec, "sha256:0")
    return project, project.journal.keep(replace(begun, state=state))


def test_a_run_that_no_process_runs_any_more_is_said_to_have_ended(tmp_path: Path) -> None:
    """Killed, or the disk was full: its record says Running for ever."""
    project, run = project_with(tmp_path, RunState.RUNNING)
    seen = project.get_run()
    assert (seen.state, seen.record.message, seen.exit_code) == (RunState.FAILED, UNSAID, 1)
    assert seen.summary()["seconds"] < 60, "it did not go on until now"
    assert project.get_run(run.id).state == RunState.FAILED
    assert project.journal.get(run.id) == run, "looking writes nothing"


def test_a_run_that_is_alive_is_running(tmp_path: Path) -> None:
    project, run = project_with(tmp_path, RunState.RUNNING)
    with exclusive(project.state / "lock", what="modelyard run"):
        assert project.get_run().state == RunState.RUNNING
        assert project.runs()[0].record == run


def test_how_a_run_ended_is_not_said_again(tmp_path: Path) -> None:
    project, run = project_with(tmp_path, RunState.STOPPED)
    assert project.get_run().record == run


def test_the_next_run_writes_down_what_the_last_one_could_not(tmp_path: Path) -> None:
    _, run = project_with(tmp_path, RunState.RUNNING)
    journal = Journal(tmp_path / ".modelyard")
    journal.settle()
    assert (journal.get(run.id).state, journal.get(run.id).message) == (RunState.FAILED, UNSAID)
    assert isinstance(journal.get(run.id).project, ModelProject)
