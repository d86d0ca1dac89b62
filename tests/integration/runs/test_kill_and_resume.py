"""Killed at any moment and run again, a run ends where an unbroken one does."""

from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.integration.runs.walking import (
    PROJECT,
    Event,
    Plan,
    Running,
    kind,
    last_run,
    leftovers,
    results,
    small_project,
    walk,
)

from modelyard.processes import wait_until
from modelyard.runs.journal import RunState

pytestmark = [pytest.mark.process, pytest.mark.slow]


def kill_at_every_event(folder: Path, *, until: str | None, most: int) -> list[Event]:
    """Kill one run after another, each at the first event that none before it lived through; the last one ends well."""
    passed: set[Event] = set()
    for _ in range(most):
        ended = walk(folder, until=until, plan=Plan(at=frozenset(passed)))
        assert not ended.left, f"left after {ended.last}: {ended.left}"
        if ended.code == 0:
            return sorted(passed)
        assert ended.code == -9, (ended.code, ended.error, ended.last)
        assert kind(ended.last) not in passed
        passed.add(kind(ended.last))
    raise AssertionError(f"killed {most} times: {sorted(passed)}")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """Where a run ends that nobody kills, and the seconds that it takes."""
    folder = small_project(tmp_path_factory.mktemp("unbroken") / "project")
    whole = walk(folder, until="evaluate")
    assert whole.code == 0
    return results(folder), whole.seconds


def test_killed_at_every_event_up_to_the_evaluation(tmp_path: Path, unbroken: tuple[dict[str, Any], float]) -> None:
    broken, expected = small_project(tmp_path / "broken"), unbroken[0]
    killed = kill_at_every_event(broken, until="evaluate", most=40)
    assert {(stage, state) for stage, state, _ in killed} >= {
        (stage, state) for stage in ("prepare", "train", "evaluate") for state in ("started", "progress", "done")
    }
    assert results(broken) == expected
    assert leftovers(broken) == []
    again = walk(broken, until="evaluate")
    assert [event[1] for event in again.events if event[1] in {"done", "cached"}] == ["cached"] * 3
    assert results(broken) == expected


def test_its_processes_end_with_a_run_whose_guard_was_killed_too(tmp_path: Path) -> None:
    """What ends them then is the parent-death signal alone, which the guard's work hides everywhere else."""
    folder = small_project(tmp_path / "project", text=PROJECT.replace("epochs: 2", "epochs: 100000"))
    run = Running(folder, until="train")
    run.until("train", "progress")
    ours = psutil.Process(run.process.pid)
    wait_until(lambda: len(ours.children(recursive=True)) >= 3, deadline_s=60, what="the guard, the launcher, a rank")
    (guard,) = (child for child in ours.children() if "killpg" in " ".join(child.cmdline()))
    ours.suspend()  # so that it starts no other guard
    guard.kill()
    ours.kill()
    assert run.end().left == []


def test_killed_at_moments_that_nobody_chose(tmp_path: Path, unbroken: tuple[dict[str, Any], float]) -> None:
    """In the midst of writing, starting, stepping: after a fifth of the time that an unbroken run takes, and more."""
    broken, (expected, seconds) = small_project(tmp_path / "broken"), unbroken
    for tenth in (2, 5, 8):
        ended = walk(broken, until="evaluate", plan=Plan(after_s=seconds * tenth / 10))
        assert ended.code in {-9, 0}, ended.error
        assert not ended.left
        if ended.code == -9 and ended.events:  # else it was killed before there was a run
            assert last_run(broken).state == RunState.RUNNING
    unborn = broken / ".modelyard" / "runs" / "20200101-000000"  # as one is left that ends while it writes its record
    unborn.mkdir()
    (unborn / ".run.json.4c1d4c1d4c1d.tmp").write_text("{")
    assert walk(broken, until="evaluate").code == 0
    assert results(broken) == expected
    assert leftovers(broken) == []
