"""The stages that need MLflow, a server and the rollout loop: killed, stopped, and without MLflow, over real ones."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.integration.runs.walking import Plan, Running, forget, kind, last_run, results, small_project, walk

from modelyard.processes import free_port
from modelyard.rollout.laptop.records import FileRecords
from modelyard.rollout.laptop.yard import down, running, up
from modelyard.runs.journal import RunState
from modelyard.runs.stages import Stage

pytestmark = [pytest.mark.process, pytest.mark.slow]

LIVE = tuple(stage.value for stage in Stage if stage.place >= Stage.GATE.place)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose services are up, evaluated once."""
    folder = small_project(tmp_path_factory.mktemp("way") / "project")
    home = folder / ".modelyard" / "yard"
    try:
        up(home)
        yield folder
    finally:
        down(home)


def test_killed_at_every_event_up_to_live_traffic(folder: Path) -> None:
    """One version, one attempt, the same keys and digests as without a kill; also where it was champion already."""
    home = folder / ".modelyard" / "yard"
    better = {"metadata.name": "killed", "gates.1": "{metric: accuracy, betterThanChampion: true}"}
    unbroken = walk(folder, until="package", set=better)
    assert unbroken.code == 0, unbroken.error
    expected = results(folder)
    forget(folder)
    passed = {kind(event) for event in walk(folder, until="evaluate", set=better).events}
    for _ in range(60):
        ended = walk(folder, plan=Plan(at=frozenset(passed)), set=better)
        assert not ended.left, f"left after {ended.last}: {ended.left}"
        if ended.code == 0:
            break
        assert ended.code == -9, (ended.code, ended.error, ended.last)
        passed.add(kind(ended.last))
    assert ended.code == 0
    assert {(stage, state) for stage, state, _ in passed} >= {(s, t) for s in LIVE for t in ("started", "done")}
    found = results(folder)
    assert {name: found.get(name) for name in expected} == expected
    yard = running(home)
    assert yard is not None
    from modelyard.registry.mlflow import MLflowRegistry  # imports MLflow: in the worker that needs it only

    (version,) = MLflowRegistry(yard.mlflow).versions("killed")
    (attempt,) = FileRecords(home / "records").rollouts("default/killed")
    assert (version.version, attempt.status.phase) == ("1", "Successful")
    assert last_run(folder).state == RunState.SUCCEEDED


def test_stopped_in_every_stage_it_says_so_and_leaves_nothing(folder: Path) -> None:
    for number, stage in enumerate(LIVE):
        how = (signal.SIGINT, signal.SIGTERM)[number % 2]
        ended = walk(folder, plan=Plan(signal=how, stage=stage), set={"metadata.name": "stopped"})
        assert (ended.code, ended.last[0]) == (130, stage), ended.error
        assert not ended.left
        record = last_run(folder)
        assert (record.state, record.message) == (RunState.STOPPED, "stopped; run again to go on")
    mine = {"metadata.name": "stopped", "deployment.traffic.port": free_port()}
    for _ in range(2):  # the second time the port is taken, by our own router
        ended = walk(folder, set=mine)
        assert ended.code == 0, ended.error


AWAY = {"metadata.name": "away"}


def test_mlflow_that_dies_alone_in_mid_run_comes_back_and_the_run_goes_on(folder: Path) -> None:
    """Killed between two stages that ask it; the yard starts it again at its address."""
    yard = up(folder / ".modelyard" / "yard")
    run = Running(folder, plan=Plan(stage="package", state="done", hold=True), set=AWAY)
    run.until("package", "done")
    (mlflow,) = (p for p in psutil.Process(yard.pid).children() if "modelyard.registry.serve" in " ".join(p.cmdline()))
    mlflow.kill()
    mlflow.wait(timeout=20)
    run.let_go()
    ended = run.end()
    assert ended.code == 0, ended.error
    assert ended.events[-1][:2] == ("settle", "done")


def test_services_that_are_gone_in_mid_run_end_it_with_the_reason(folder: Path) -> None:
    yard = up(folder / ".modelyard" / "yard")
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    run = Running(folder, plan=Plan(stage="package", state="cached", hold=True), set=AWAY, env=patience)
    run.until("package", "cached")
    services = psutil.Process(yard.pid)
    family = [services, *services.children(recursive=True)]
    services.kill()
    psutil.wait_procs(family, timeout=20)
    run.let_go()
    ended = run.end()
    assert ended.code == 1
    assert "MLflow" in ended.error
    record = last_run(folder)
    assert (record.state, record.message) == (RunState.FAILED, ended.error)


def test_a_project_folder_that_was_moved_still_works(folder: Path, tmp_path: Path) -> None:
    """Nothing on disk names the place where it was made: services that start there serve what was registered before."""
    assert not down(folder / ".modelyard" / "yard")
    moved = tmp_path / "moved"
    folder.rename(moved)
    try:
        ended = walk(moved, set=AWAY)
        assert ended.code == 0, ended.error
        assert [event[1] for event in ended.events if event[0] == "package"][-1] == "cached"
    finally:
        down(moved / ".modelyard" / "yard")
