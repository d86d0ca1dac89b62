"""Killed after any single read or write of a rollout and started again, the loop ends where the unbroken run ends.

Exhaustive: every call of a port in a canary's success, failure (alias kept and restored) and abort is a crash point;
each also with a second loop that is alive all the time. What must always hold is checked by `FakeWorld` at every act.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.killing import Killed, killing
from tests.fakes.scenarios import abort, failure, success
from tests.fakes.world import KEY, FakeWorld

from modelyard.rollout import commands
from modelyard.rollout.loop import look
from modelyard.rollout.states import has_ended
from modelyard.spec.deployment import Rollback
from modelyard.spec.rollout import Phase

NEVER = 10**9


def failure_with_the_alias_restored(it: FakeWorld) -> None:
    it.wish(rollback=Rollback(alias="Restore"))
    failure(it)


SCENARIOS = (success, failure, failure_with_the_alias_restored, abort)


def ending(it: FakeWorld) -> dict[str, Any]:
    """Where it ended, without times and the words that hold them."""
    return {
        "stable": it.stable,
        "attempts": [
            (
                each.metadata.name,
                each.spec.version,
                each.status.phase,
                each.status.verdict and each.status.verdict.reason,
            )
            for each in it.rollouts
        ],
        "alias": it.registry.aliases["digits", "champion"],
        "before and after": it.attempt.status.alias,
        "tags": it.tags,
        "route": it.router.asked,
        "arms": {name: (arm.replicas, arm.ready) for name, arm in it.arms.there[KEY].items()},
        "conditions": [(each.type, each.status, each.reason) for each in it.deployment.status.conditions],
    }


def run(
    scenario: Callable[[FakeWorld], None], *, kill_after: int = NEVER, second: bool = False
) -> tuple[FakeWorld, int]:
    """Run a scenario to its end; gives the world and the number of calls of ports."""
    it = FakeWorld(rps=2000)
    it.wish()
    it.bring("1")
    scenario(it)
    world, other = killing(it.world, after=kill_after), replace(it.world, memory={})
    clock = world.records._clock  # type: ignore[attr-defined]
    for _ in range(100):
        it.pass_time(1.0)
        if scenario is abort and it.attempt.status.phase is Phase.PROGRESSING and it.attempt.status.step == 1:
            it.patch(commands.abort(it.attempt))
        try:
            again = look(world, KEY, now=it.now)
        except Killed:
            it.memory.clear()
            world = it.world
            continue
        if second:
            again = look(other, KEY, now=it.now)
        if again is None and all(map(has_ended, it.rollouts)) and len(it.rollouts) > 1:
            return it, clock.calls
    raise AssertionError(f"no end: {ending(it)}")


@pytest.mark.parametrize("second", [False, True], ids=["alone", "beside a second loop"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.__name__.replace("_", " ") for each in SCENARIOS])
def test_killed_after_any_read_or_write_it_ends_where_the_unbroken_run_ends(
    scenario: Callable[[FakeWorld], None], second: bool
) -> None:
    unbroken, calls = run(scenario)
    expected = ending(unbroken)
    assert calls > 50
    for point in range(1, calls + 1):
        it, _ = run(scenario, kill_after=point, second=second)
        assert ending(it) == expected, f"killed after call {point} of {calls}"


def test_the_scenarios_end_as_their_names_say() -> None:
    assert [ending(run(each)[0])["attempts"][-1][2:] for each in SCENARIOS] == [
        ("Successful", "AnalysisSuccessful"),
        ("Failed", "ErrorRate"),
        ("Failed", "ErrorRate"),
        ("Failed", "Aborted"),
    ]
