"""Killed at any moment and run again, a run ends where an unbroken one does."""

from pathlib import Path

import pytest
from tests.integration.runs.walking import Event, Plan, kind, last_run, leftovers, results, small_project, walk

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


def test_killed_at_every_event_up_to_the_evaluation(tmp_path: Path) -> None:
    unbroken, broken = small_project(tmp_path / "unbroken"), small_project(tmp_path / "broken")
    assert walk(unbroken, until="evaluate").code == 0
    killed = kill_at_every_event(broken, until="evaluate", most=40)
    assert {(stage, state) for stage, state, _ in killed} >= {
        (stage, state) for stage in ("prepare", "train", "evaluate") for state in ("started", "progress", "done")
    }
    assert results(broken) == results(unbroken)
    assert leftovers(broken) == []
    again = walk(broken, until="evaluate")
    assert [event[1] for event in again.events if event[1] in {"done", "cached"}] == ["cached"] * 3
    assert results(broken) == results(unbroken)


def test_killed_at_moments_that_nobody_chose(tmp_path: Path) -> None:
    """In the midst of writing, starting, stepping: after a tenth of the time that an unbroken run takes, and more."""
    unbroken, broken = small_project(tmp_path / "unbroken"), small_project(tmp_path / "broken")
    whole = walk(unbroken, until="evaluate")
    assert whole.code == 0
    for tenth in (1, 3, 5, 7, 9):
        ended = walk(broken, until="evaluate", plan=Plan(after_s=whole.seconds * tenth / 10))
        assert ended.code in {-9, 0}, ended.error
        assert not ended.left
        if ended.code == -9 and ended.events:  # else it was killed before there was a run
            assert last_run(broken).state == RunState.RUNNING
    assert walk(broken, until="evaluate").code == 0
    assert results(broken) == results(unbroken)
    assert leftovers(broken) == []
