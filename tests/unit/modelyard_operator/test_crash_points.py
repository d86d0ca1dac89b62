"""Killed after any single write or read of a rollout and started again, the operator ends where the unbroken run ends.

Every call of the Kubernetes API and of the registry in a canary's success, failure and abort is a crash point: 666 of
them. A read changes nothing, so that all points between two writes of one look leave one and the same cluster; the
world is forked at each of these 267 (that no other call changes anything is asserted), and goes on from there under a
new process. Twice: the new process waits until the Lease of the killed one has run out; and beside a second replica
that takes itself for the leader all the time, whatever the Lease says. What must always hold (design, section 4) is
checked by `ClusterWorld` at every write and every second.

`make test` runs every `STRIDE`th, in the two variants not the same; `HYPOTHESIS_PROFILE=nightly` runs all.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from tests.fakes.cluster import Call
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.replica import Replica
from tests.fakes.scenarios import abort, failure, success

from modelyard.kube.port import EVENT, LEASE
from modelyard.rollout import commands
from modelyard.spec.rollout import Phase

pytestmark = pytest.mark.usefixtures("unlogged")
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
STRIDE = 8
LONG = 120
AWAY_S = 4.0
"""Seconds between two turns while the Lease of the killed one runs out."""


Scenario = Callable[[ClusterWorld], None]
SCENARIOS: dict[Scenario, tuple[Phase, str]] = {
    success: (Phase.SUCCESSFUL, "AnalysisSuccessful"),
    failure: (Phase.FAILED, "ErrorRate"),
    abort: (Phase.FAILED, "Aborted"),
}
"""What the attempt of each comes to."""


def begun(scenario: Scenario) -> tuple[ClusterWorld, Replica]:
    """Version 1 is stable; what the scenario does was just done."""
    it = ClusterWorld()
    it.version("1")
    it.alias("1")
    it.wish()
    replica = Replica(it, "first")
    for _ in range(20):
        it.pass_time(1.0)
        replica.turn()
    assert it.at_rest
    scenario(it)
    return it, replica


def interfere(scenario: Scenario, it: ClusterWorld) -> None:
    """What people do in mid-rollout."""
    if scenario is abort and it.phases()[-1] == Phase.PROGRESSING:
        attempt = it.attempt
        if attempt.status.step == 1 and not attempt.spec.abort:
            it.patch(commands.abort)


def go_on(scenario: Scenario, it: ClusterWorld, replica: Replica, other: Replica | None = None) -> None:
    """Until all is at rest and nobody wants another look."""
    quiet = 0
    it.kube.after = lambda call: it.check() if call.writes and call.kind not in (LEASE, EVENT) else None
    for _ in range(LONG):
        it.pass_time(1.0 if replica.leading() else AWAY_S)
        interfere(scenario, it)
        replica.turn()
        if other is not None:
            other.turn()
        quiet = quiet + 1 if len(it.phases()) > 1 and it.at_rest and replica.idle and replica.leading() else 0
        if quiet > 1:
            return
    raise AssertionError(f"no end: {ending(it)}")


class Points(NamedTuple):
    """All that a kill can leave behind, and after how many calls."""

    worlds: list[ClusterWorld]
    """One for each write, and one for the beginning of each look."""
    calls: int
    end: dict[str, Any]


def crash_points(scenario: Scenario) -> Points:
    """The unbroken run, with the world forked wherever a kill would leave another one than the kill before."""
    it, replica = begun(scenario)
    worlds: list[ClusterWorld] = []
    calls, known = 0, -1

    def after(call: Call) -> None:
        nonlocal calls, known
        calls += 1
        if it.kube.revision + it.registry.acts != known:
            assert call.writes or it.registry.acts, f"{call} is no write, and changed something"
            known = it.kube.revision + it.registry.acts
            worlds.append(it.fork())

    quiet = 0
    for _ in range(LONG):
        it.pass_time(1.0)
        interfere(scenario, it)
        worlds.append(it.fork())
        known = it.kube.revision + it.registry.acts
        it.kube.after = after
        replica.turn()
        it.kube.after = lambda _call: None
        quiet = quiet + 1 if len(it.phases()) > 1 and it.at_rest and replica.idle else 0
        if quiet > 1:
            return Points(worlds, calls, ending(it))
    raise AssertionError(f"no end: {ending(it)}")


def ending(it: ClusterWorld) -> dict[str, Any]:
    """Where it ended, without times and the words that hold them."""
    wish = it.deployment
    return {
        "attempts": [
            (
                each.metadata.name,
                each.spec.version,
                each.status.phase,
                each.status.verdict and each.status.verdict.reason,
            )
            for each in it.rollouts
        ],
        "stable": wish.status.stable and (wish.status.stable.version, wish.status.stable.ready_replicas),
        "alias": it.registry.aliases["digits", "champion"],
        "tags": {number: each.tags.get("modelyard.rollout") for (_, number), each in it.registry.known.items()},
        "route": it.asked,
        "traffic": it.in_force,
        "arms": {arm: (each["spec"].get("replicas"), it.ready(arm)) for arm, each in it.arms().items()},
        "objects": sorted(
            f"{kind.kind}/{name}"
            for kind, _, name in it.kube._stored
            if kind not in (LEASE, EVENT) and not kind.kind.startswith("Pod")
        ),
        "conditions": [(each.type, each.status, each.reason) for each in wish.status.conditions],
        "unanswered by stable": it.unanswered,
    }


@pytest.mark.parametrize("second", [False, True], ids=["restarted", "beside a second leader"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.__name__ for each in SCENARIOS])
def test_killed_anywhere_it_ends_where_the_unbroken_run_ends(scenario: Scenario, second: bool) -> None:
    points = crash_points(scenario)
    assert len(points.worlds) >= 60, "what a kill can leave behind"
    assert points.end["attempts"][-1][2:] == SCENARIOS[scenario]
    first, stride = (0, 1) if NIGHTLY else (STRIDE // 2 if second else 0, STRIDE)
    for number, it in list(enumerate(points.worlds))[first::stride]:
        other = Replica(it, "other", always=True, offset=5e5) if second else None
        go_on(scenario, it, Replica(it, "restarted", offset=-3e5), other)
        assert ending(it) == points.end, f"killed at point {number}"
