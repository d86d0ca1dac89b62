"""Whatever people, faults and leaders do, in whatever order: what always holds, holds; and when faults stop, it rests.

Two replicas of the operator over a cluster in memory, with its own adapters. `ClusterWorld.check` is the law. Each
example costs dozens of looks over a whole API, so that `make test` runs `EXAMPLES` short ones; `make nightly` 10,000.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Part
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.fakes.cluster import Call
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.killing import Killed
from tests.fakes.replica import Replica
from tests.fakes.world import KEY, digest_of

from modelyard.errors import BadInput, Conflict, Refused, Unavailable
from modelyard.kube.metadata import ARM_LABEL, DEPLOYMENT_LABEL
from modelyard.kube.port import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    EVENT,
    HTTP_ROUTE,
    LEASE,
    MODEL_DEPLOYMENT,
    MODEL_ROLLOUT,
    POD,
    Kind,
)
from modelyard.rollout import commands
from modelyard.rollout.cluster.records import KubeRecords
from modelyard.rollout.states import has_ended
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisStep,
    Canary,
    Pause,
    PauseStep,
    SetWeight,
    Strategy,
)
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.units import Duration

pytestmark = pytest.mark.usefixtures("unlogged")
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES = 10_000 if NIGHTLY else int(os.environ.get("EXAMPLES", "120"))
LENGTH = 20 if NIGHTLY else 12
"""Steps of an example, but for those of its end."""

VERDICT = AnalysisStep(analysis=AnalysisGate())
STEPS = {
    "usual": (SetWeight(set_weight=5), VERDICT, SetWeight(set_weight=50), VERDICT),
    "one": (SetWeight(set_weight=30), VERDICT),
    "until resumed": (SetWeight(set_weight=20), PauseStep(pause=Pause()), VERDICT),
}
KEPT = (MODEL_DEPLOYMENT, MODEL_ROLLOUT, DEPLOYMENT, HTTP_ROUTE, CONTROLLER_REVISION, POD)
GOOD, BAD = ("1", "2", "3"), ("8", "9")
SELDOM = st.sampled_from((False, False, False, True))
ERRORS: dict[str, Callable[[], Exception]] = {
    "409": lambda: Conflict("it was changed", do="look again"),
    "422": lambda: Refused("spec.replicas: Invalid value", do="change it"),
    "429": lambda: Unavailable("too many requests", do="wait"),
    "500": lambda: Unavailable("an internal error", do="wait"),
    "time-out": lambda: Unavailable("no answer in time", do="wait"),
}


def strategy(steps: str) -> dict[str, Any]:
    return {"strategy": Strategy(canary=Canary(steps=STEPS[steps], progress_deadline=Duration("30s")))}


@cache
def unused() -> ClusterWorld:
    """Versions, and a wish that nobody has looked at. To be forked."""
    it = ClusterWorld()
    for number in GOOD:
        it.version(number)
    for number in BAD:
        it.version(number, errors=0.4)
    it.wish(analysis=Analysis(max_duration=Duration("60s")), **strategy("usual"))
    it.alias("1")
    return it


@cache
def serving() -> ClusterWorld:
    """The same, with version 1 rolled out by a process of the name that the first replica has."""
    it = unused().fork()
    replica = Replica(it, "replica-0")
    for _ in range(12):
        it.pass_time(1.0)
        replica.turn()
    assert it.at_rest
    return it


class Operators(RuleBasedStateMachine):
    """One deployment, two replicas, people and faults."""

    def __init__(self) -> None:
        super().__init__()
        self.names = iter(f"replica-{number}" for number in range(10_000))
        self.go_on_in(unused())

    @initialize(first=SELDOM)
    def begin(self, first: bool) -> None:
        """With a stable version, or at the very first rollout."""
        if not first:
            self.names = iter(f"replica-{number}" for number in range(10_000))
            self.go_on_in(serving())

    def go_on_in(self, world: ClusterWorld) -> None:
        """Two new processes, of which the first holds the Lease already where it has the name of one that did."""
        self.it = world.fork()
        self.replicas = [self.replica(), self.replica()]
        self.watched()

    def replica(self) -> Replica:
        name = next(self.names)
        return Replica(self.it, name, offset=float(hash(name) % 1000) * 1e3)

    def watched(self) -> None:
        """Every write is checked, and nothing else befalls a call."""
        self.it.kube.before = lambda _call: None
        self.it.kube.after = lambda call: self.it.check() if call.writes and call.kind not in (LEASE, EVENT) else None

    def go_on(self, looks: int, every: float) -> None:
        for _ in range(looks):
            self.it.pass_time(every)
            for place, each in enumerate(self.replicas):
                try:
                    each.turn()
                except Killed:
                    self.watched()
                    self.replicas[place] = self.replica()

    # people

    @rule(number=st.sampled_from((*GOOD, *BAD, *GOOD, "unregistered", None)), then=st.sampled_from((1, 3, 8)))
    def the_alias_moves(self, number: str | None, then: int) -> None:
        self.it.alias(number)
        self.go_on(then, 1.0)

    @rule(replicas=st.integers(1, 4))
    def replicas_change(self, replicas: int) -> None:
        self.it.wish(replicas=replicas)
        self.go_on(1, 1.0)

    @rule(steps=st.sampled_from(sorted(STEPS)), workers=st.sampled_from((1, 1, 2)))
    def the_spec_changes(self, steps: str, workers: int) -> None:
        self.it.wish(runtime={"type": "TorchServe", "torchServe": {"workers": workers}}, **strategy(steps))
        self.go_on(1, 1.0)

    @rule(paused=SELDOM)
    def the_wish_is_paused(self, paused: bool) -> None:
        self.it.wish(paused=paused)
        self.go_on(1, 1.0)

    @precondition(lambda self: self.it.phases())
    @rule(what=st.sampled_from((commands.promote, commands.pause, commands.resume, commands.abort)))
    def somebody_patches_the_rollout(self, what: Callable[[ModelRollout], ModelRollout]) -> None:
        with suppress(BadInput):
            self.it.patch(what)
        self.go_on(2, 1.0)

    @rule(what=st.sampled_from((commands.retry, commands.undo)))
    def somebody_asks_again(self, what: Callable[..., ModelRollout]) -> None:
        with suppress(BadInput), self.it.controllers.unseen():
            KubeRecords(self.it.kube, manager="cli").write(what(self.it.deployment, self.it.rollouts))
        self.go_on(2, 1.0)

    @rule(kind=st.sampled_from((DEPLOYMENT, HTTP_ROUTE)), replicas=st.integers(1, 5))
    def somebody_edits_what_is_ours(self, kind: Any, replicas: int) -> None:
        """`kubectl scale`, or a label on the route: set right, never taken for a fault."""
        with self.it.controllers.unseen():
            for each in self.it.kube.all(kind)[:1]:
                labels = {**each["metadata"]["labels"], "somebody": str(replicas)}
                spec = {**each["spec"], "replicas": replicas} if kind == DEPLOYMENT else each["spec"]
                thing = {**each, "metadata": {**each["metadata"], "labels": labels}, "spec": spec}
                self.it.kube.replace(thing, manager="kubectl")
        self.go_on(1, 1.0)

    # faults

    @rule(number=st.sampled_from((*GOOD, *BAD)), how=st.sampled_from(("crash", "oom", "pull", "unschedulable", "")))
    def a_version_cannot_start(self, number: str, how: str) -> None:
        self.it.controllers.broken[digest_of(number)] = how

    @rule()
    def versions_can_start_again(self) -> None:
        self.it.controllers.broken.clear()
        self.go_on(1, 1.0)

    @rule(number=st.sampled_from((*GOOD, *BAD)))
    def pods_die(self, number: str) -> None:
        labels = {DEPLOYMENT_LABEL: "digits", ARM_LABEL: self.it.arm_of(number)}
        self.it.controllers.crash(labels)
        self.go_on(1, 1.0)

    @rule(missing=SELDOM)
    def metrics_come_and_go(self, missing: bool) -> None:
        self.it.counters.missing = missing
        self.go_on(1, 4.0)

    @rule(away=SELDOM)
    def the_registry_comes_and_goes(self, away: bool) -> None:
        self.it.registry.away = away
        self.go_on(1, 1.0)

    @rule(accepts=SELDOM.map(lambda seldom: not seldom))
    def the_gateway_sleeps_or_wakes(self, accepts: bool) -> None:
        self.it.controllers.gateway = accepts
        self.go_on(2, 1.0)

    @rule(seconds=st.sampled_from((-3600.0, -7.0, 100.0)))
    def the_clock_steps(self, seconds: float) -> None:
        """The wall clock: Leases go by another one, which here is the same but for its beginning."""
        if seconds > 0:
            self.it.now += seconds
        self.go_on(1, 1.0)

    @rule(
        what=st.sampled_from(sorted(ERRORS)),
        after=st.integers(0, 15),
        lost=st.booleans(),
        calls=st.sampled_from((1, 1, 3, 40)),
    )
    def the_api_fails(self, what: str, after: int, lost: bool, calls: int) -> None:
        """So many calls, before they do anything, or (`lost`) when they have done it."""
        left = [after, calls]

        def hook(call: Call) -> None:
            left[0] -= 1
            if left[0] < 0 < left[1] and (call.writes or what not in ("409", "422")):
                left[1] -= 1
                raise ERRORS[what]()

        self.hooked(hook, lost=lost and what not in ("409", "422"))
        self.go_on(2, 1.0)
        self.watched()

    @rule(after=st.integers(0, 20), lost=st.booleans())
    def a_replica_is_killed(self, after: int, lost: bool) -> None:
        left = [after]

        def hook(_call: Call) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise Killed

        self.hooked(hook, lost=lost)
        self.go_on(2, 1.0)
        self.watched()

    def hooked(self, hook: Callable[[Call], None], *, lost: bool) -> None:
        if not lost:
            self.it.kube.before = hook
            return
        check = self.it.kube.after

        def after(call: Call) -> None:
            check(call)
            hook(call)

        self.it.kube.after = after

    @rule()
    def the_leader_hangs_and_another_takes_over(self) -> None:
        leaders = [each for each in self.replicas if each.leading()]
        for seconds in (8.0, 8.0, 1.0, 1.0):
            self.it.pass_time(seconds)
            for each in self.replicas:
                if each not in leaders:
                    each.turn()

    @rule()
    def the_watches_begin_anew(self) -> None:
        """An event was missed: the next look finds everything by itself."""
        for each in self.replicas:
            each.queue.forget(KEY)
        self.go_on(1, 1.0)

    @rule(kinds=st.sets(st.sampled_from(KEPT), min_size=1), turns=st.sampled_from((2, 5, 15)))
    def watches_are_late(self, kinds: set[Kind], turns: int) -> None:
        """What is read is as old as that, but for what the replica wrote itself."""
        for each in self.replicas:
            each.late |= dict.fromkeys(kinds, turns)
        self.go_on(1, 1.0)

    @rule(looks=st.sampled_from((1, 4, 10)), every=st.sampled_from((0.3, 1.0, 4.0)))
    def time_passes(self, looks: int, every: float) -> None:
        self.go_on(looks, every)

    # what always holds

    @invariant()
    def the_law_holds(self) -> None:
        self.it.check()

    @invariant()
    def at_most_one_replica_leads(self) -> None:
        assert sum(each.leading() for each in self.replicas) <= 1

    @invariant()
    def a_bad_version_is_never_stable_by_itself(self) -> None:
        if Phase.SUCCESSFUL not in self.it.phases():
            return
        for each in self.it.rollouts:
            if each.status.phase is Phase.SUCCESSFUL and each.spec.version in BAD:
                assert each.spec.promote or not each.spec.steps

    # in the end

    def teardown(self) -> None:
        """Faults stop: it converges, serves what is wished or says why not, and then writes nothing."""
        it = self.it
        self.watched()
        for each in self.replicas:
            each.late.clear()
        it.controllers.broken.clear()
        it.controllers.gateway, it.counters.missing, it.registry.away = True, False, False
        if it.registry.aliases.get(("digits", "champion")) in (None, "unregistered"):
            it.alias("2")
        it.wish(paused=False)
        self.until_rest()
        wish = it.deployment
        stable = wish.status.stable
        said = {each.type: each for each in wish.status.conditions}
        if said["Degraded"].status == "False":
            assert stable is not None
            assert stable.arm == it.arm_of(it.registry.aliases["digits", "champion"] or "")
        else:
            assert said["Degraded"].reason == "TargetFailed", said["Degraded"]
        expected = {} if stable is None else {stable.arm: 100}
        assert it.asked == it.in_force == expected
        assert set(it.arms()) == set(expected)
        writes = it.kube.revision, it.registry.acts
        leases = [each["metadata"]["resourceVersion"] for each in it.kube.peek(LEASE)]
        for _ in range(5):
            it.pass_time(15.0)
            for each in self.replicas:
                if each.leading():
                    each.look()
        assert leases == [each["metadata"]["resourceVersion"] for each in it.kube.peek(LEASE)]
        assert (it.kube.revision, it.registry.acts) == writes, "it writes although nothing changes"
        it.kube.unspoilt()

    def until_rest(self) -> None:
        quiet = 0
        for _ in range(200):
            self.go_on(1, 3.0)
            leader = next((each for each in self.replicas if each.leading()), None)
            quiet = quiet + 1 if leader is not None and self.it.at_rest and leader.idle else 0
            if quiet > 1:
                return
            if self.it.phases() and not self.it.at_rest:
                self.help(self.it.attempt)
        raise AssertionError(f"no rest: {self.it.attempt.status.phase} {self.it.asked} {self.it.deployment.status}")

    def help(self, attempt: ModelRollout) -> None:
        """Resume what waits for a person."""
        if has_ended(attempt):
            return
        waits = attempt.spec.paused or attempt.spec.resumed < attempt.status.step
        if waits and attempt.status.phase is Phase.PROGRESSING:
            with suppress(BadInput):
                self.it.patch(commands.resume)


TestOperators = Operators.TestCase
TestOperators.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=LENGTH,
    deadline=None,
    database=None,
    derandomize="EXAMPLES" not in os.environ and not NIGHTLY,
    phases=[Part.explicit, Part.generate, Part.shrink],
    suppress_health_check=list(HealthCheck),
)
