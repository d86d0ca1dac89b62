"""A fresh copy of stable beside the canary, on a cluster in memory: under traffic, and killed anywhere."""

import pytest
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.replica import Replica
from tests.fakes.scenarios import success
from tests.unit.modelyard_operator import test_crash_points as crashes

from modelyard.kube.metadata import name_of
from modelyard.kube.port import CONTROLLER_REVISION, DEPLOYMENT, HTTP_ROUTE, SERVICE
from modelyard.rollout.cluster.render_route import places
from modelyard.spec.deployment import Analysis
from modelyard.spec.rollout import Phase

pytestmark = pytest.mark.usefixtures("unlogged")
STRIDE = 60


def beside(it: ClusterWorld) -> None:
    """The next version is compared with a baseline, and is as good."""
    it.wish(analysis=Analysis(baseline=True))
    success(it)


def test_three_arms_share_the_route_and_two_leave_nothing_behind() -> None:
    it, replica = crashes.begun(beside)
    seen: list[dict[str, int]] = []
    for _ in range(crashes.LONG):
        it.pass_time(1.0)
        replica.turn()
        if it.in_force not in seen:
            seen.append(dict(it.in_force))
        if len(it.phases()) > 1 and it.at_rest and len(it.arms()) == 1 and replica.idle:
            break
    stable, canary = it.arm_of("1"), it.arm_of("2")
    (copy,) = {arm for shares in seen for arm in shares} - {stable, canary}
    assert seen == [{stable: 100}, {stable: 90, canary: 5, copy: 5}, {canary: 50, copy: 50}, *seen[3:-1], {canary: 100}]
    assert all(copy not in shares for shares in seen[3:])
    assert it.attempt.status.phase is Phase.SUCCESSFUL
    assert it.unanswered == 0
    route = it.found(HTTP_ROUTE, "digits")
    assert route is not None
    assert copy not in dict(places(route))
    for kind in (DEPLOYMENT, SERVICE, CONTROLLER_REVISION):
        assert not [name for name in map(name_of, it.kube.peek(kind)) if copy in name]


def test_killed_it_ends_where_the_unbroken_run_ends() -> None:
    """Some points; those near the end too, where the copy goes: nothing of it may stay."""
    points = crashes.crash_points(beside)
    assert points.end["attempts"][-1][2:] == (Phase.SUCCESSFUL, "AnalysisSuccessful")
    some = {*range(0, len(points.worlds), STRIDE), *range(len(points.worlds) - 8, len(points.worlds), 2)}
    for number in range(len(points.worlds)) if crashes.NIGHTLY else sorted(some):
        it = points.worlds[number]
        crashes.go_on(beside, it, Replica(it, "restarted", offset=-3e5))
        assert crashes.ending(it) == points.end, f"killed at point {number}"
