"""Whatever people and faults do, in whatever order: what always holds, holds; and when faults stop, it comes to rest.

`FakeWorld` refuses acts that must never happen (`_may_retire`, `_may_write`, weights of arms that are not there), also
from a loop that decided long ago. 240 examples here; `HYPOTHESIS_PROFILE=nightly` runs 10,000.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import Phase as Part
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.fakes.killing import Killed, killing
from tests.fakes.world import KEY, FakeWorld, digest_of

from modelyard.errors import BadInput, Conflict, ModelyardError
from modelyard.rollout import commands
from modelyard.rollout.decide import decide
from modelyard.rollout.intents import Intent
from modelyard.rollout.loop import apply, look, observe
from modelyard.rollout.ports import World
from modelyard.rollout.states import has_ended
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisStep,
    Canary,
    Pause,
    PauseStep,
    Rollback,
    Runtime,
    SetWeight,
    Strategy,
    TorchServe,
)
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason, Verdict

VERDICT = AnalysisStep(analysis=AnalysisGate())
STEPS = {
    "usual": (SetWeight(set_weight=5), VERDICT, SetWeight(set_weight=50), VERDICT),
    "one": (SetWeight(set_weight=30), VERDICT),
    "no verdict named": (SetWeight(set_weight=20), PauseStep(pause=Pause(duration=Duration("3s")))),
    "until resumed": (SetWeight(set_weight=20), PauseStep(pause=Pause()), VERDICT),
    "to the full": (SetWeight(set_weight=50), VERDICT, SetWeight(set_weight=100)),
}
GOOD, BAD = ("1", "2", "3"), ("8", "9")
SELDOM = st.sampled_from((False, False, False, True))


def happens(**arguments: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule, after which the world goes on for some looks: so that faults meet rollouts in all their phases."""

    def rule_of(act: Callable[..., None]) -> Callable[..., None]:
        def then(self: "Rollouts", then_looks: int, every: float, **given: Any) -> None:
            act(self, **given)
            for _ in range(then_looks):
                self.it.pass_time(every)
                self.it.look()

        then.__name__ = act.__name__
        made = rule(
            then_looks=st.sampled_from((0, 1, 1, 2, 4, 9)), every=st.sampled_from((0.3, 1.0, 1.0, 4.0)), **arguments
        )
        return made(then)

    return rule_of


class Rollouts(RuleBasedStateMachine):
    """One deployment with a stable version, its people, its faults."""

    begins_with_a_stable_version = True

    def __init__(self) -> None:
        super().__init__()
        self.it = FakeWorld(rps=2000)
        for number in GOOD:
            self.it.version(number)
        for number in BAD:
            self.it.version(number, errors=0.4)
        self.it.wish(strategy=strategy("usual"), analysis=Analysis(max_duration=Duration("60s")))
        if self.begins_with_a_stable_version:
            self.it.bring("1")
        self.late: list[Intent] = []
        self.other: World = replace(self.it.world, memory={})

    # people

    @happens(number=st.sampled_from((*GOOD, *BAD, *GOOD, "unregistered", None)))
    def the_alias_moves(self, number: str | None) -> None:
        self.it.alias(number)

    @happens(replicas=st.integers(1, 4))
    def replicas_change(self, replicas: int) -> None:
        self.it.wish(replicas=replicas)

    @happens(workers=st.integers(1, 2))
    def serving_changes(self, workers: int) -> None:
        self.it.wish(runtime=Runtime(torch_serve=TorchServe(workers=workers)))

    @happens(steps=st.sampled_from(sorted(STEPS)))
    def steps_change(self, steps: str) -> None:
        self.it.wish(strategy=strategy(steps))

    @happens(alias=st.sampled_from(("Keep", "Restore")), pause=st.booleans())
    def policies_change(self, alias: str, pause: bool) -> None:
        on = "Pause" if pause else "Rollback"
        self.it.wish(
            rollback=Rollback(alias=alias),  # type: ignore[arg-type]
            analysis=Analysis(max_duration=Duration("60s"), on_inconclusive=on),  # type: ignore[arg-type]
        )

    @happens(paused=SELDOM)
    def the_wish_is_paused(self, paused: bool) -> None:
        self.it.wish(paused=paused)

    @precondition(lambda self: self.it.rollouts)
    @happens(what=st.sampled_from((commands.promote, commands.pause, commands.resume, commands.abort)))
    def somebody_patches_the_rollout(self, what: Callable[[ModelRollout], ModelRollout]) -> None:
        self.try_to(lambda: what(self.it.attempt))

    @happens(what=st.sampled_from((commands.retry, commands.undo)))
    def somebody_asks_again(self, what: Callable[..., ModelRollout]) -> None:
        self.try_to(lambda: what(self.it.deployment, self.it.rollouts))

    def try_to(self, make: Callable[[], ModelRollout]) -> None:
        with suppress(BadInput):
            self.it.patch(make())

    # faults

    @happens(number=st.sampled_from((*GOOD, *BAD)), known=st.sampled_from((None, "own", "unpullable")))
    def a_version_cannot_start(self, number: str, known: str | None) -> None:
        outcome = Outcome.FAILED if known == "own" else Outcome.INCONCLUSIVE
        why = Verdict(outcome=outcome, reason=Reason.CANARY_UNAVAILABLE, message="it does not start")
        self.it.arms.broken[digest_of(number)] = why if known else None

    @happens()
    def versions_can_start_again(self) -> None:
        self.it.arms.broken.clear()

    @happens(number=st.sampled_from((*GOOD, *BAD)))
    def an_arm_crashes(self, number: str) -> None:
        self.it.arms.crash(KEY, self.it.arm_of(number))

    @happens(missing=SELDOM)
    def metrics_come_and_go(self, missing: bool) -> None:
        self.it.counters.missing = missing

    @happens()
    def counters_begin_anew(self) -> None:
        self.it.counters.seen.clear()

    @happens(away=SELDOM)
    def the_registry_comes_and_goes(self, away: bool) -> None:
        self.it.registry.away = away

    @happens(readable=SELDOM.map(lambda seldom: not seldom))
    def the_router_can_be_read_or_not(self, readable: bool) -> None:
        self.it.router.readable = readable

    @happens(seconds=st.sampled_from((-3600.0, -7.0, 100.0)))
    def the_clock_steps(self, seconds: float) -> None:
        self.it.now += seconds

    @happens(calls=st.integers(0, 12))
    def the_loop_is_killed_in_mid_look(self, calls: int) -> None:
        world = killing(self.it.world, after=calls)
        try:
            look(world, KEY, now=self.it.now)
        except Killed:
            self.it.memory.clear()

    # another loop is alive: it looks, sleeps, and acts on what it saw long ago

    @happens()
    def the_other_loop_decides(self) -> None:
        seen = observe(self.other, KEY, self.it.now)
        assert seen is not None
        decision = decide(seen)
        self.other.memory[KEY] = decision.memory
        self.late = list(decision.intents)

    @precondition(lambda self: self.late)
    @happens(count=st.integers(1, 5))
    def the_other_loop_acts(self, count: int) -> None:
        now, self.late = self.late[:count], self.late[count:]
        for intent in now:
            try:
                apply(self.other, KEY, intent)
            except (Conflict, ModelyardError):
                self.late = []
                return

    # time

    @happens()
    def time_passes(self) -> None:
        pass

    @rule()
    def the_loop_looks(self) -> None:
        self.it.look()

    # what always holds

    @invariant()
    def stable_is_never_without_its_capacity(self) -> None:
        good = [each for each in self.it.rollouts if each.status.phase is Phase.SUCCESSFUL]
        if not good:
            return
        arm = self.it.arms.there[KEY].get(good[-1].spec.arm)
        assert arm is not None
        assert arm.replicas >= 1

    @invariant()
    def a_bad_version_is_never_stable_by_itself(self) -> None:
        for each in self.it.rollouts:
            if each.status.phase is Phase.SUCCESSFUL and each.spec.version in BAD:
                assert each.spec.promote or not each.spec.steps

    @invariant()
    def at_most_one_attempt_is_under_way(self) -> None:
        assert sum(not has_ended(each) for each in self.it.rollouts) <= 1

    @invariant()
    def what_failed_is_tried_again_only_when_asked(self) -> None:
        tried: set[str] = set()
        for each in self.it.rollouts:
            asked = each.spec.wished == "" or each.metadata.labels.get("modelyard.dev/asked") == "true"
            assert asked or each.spec.arm not in tried, f"{each.metadata.name} tries {each.spec.arm} again"
            verdict = each.status.verdict
            if each.status.phase is Phase.FAILED and verdict is not None and verdict.reason is not Reason.SUPERSEDED:
                tried.add(each.spec.arm)
            elif each.status.phase is Phase.SUCCESSFUL:
                tried.discard(each.spec.arm)

    # in the end

    def teardown(self) -> None:
        """Faults stop: it converges, serves what is wished or says why not, and then writes nothing."""
        it = self.it
        it.arms.broken.clear()
        it.counters.missing = it.registry.away = False
        it.router.readable = True
        it.registry.aliases["digits", "champion"] = it.registry.aliases.get(("digits", "champion")) or "1"
        if it.registry.aliases["digits", "champion"] == "unregistered":
            it.alias("2")
        it.wish(paused=False)
        for each in it.rollouts:
            if not has_ended(each):
                self.try_to(lambda each=each: commands.resume(each))  # type: ignore[misc]
        self.until_rest()
        stable = it.deployment.status.stable
        degraded, why = it.condition("Degraded")
        assert degraded == "True" or stable is not None
        if degraded == "False":
            assert stable is not None
            assert stable.arm == it.arm_of(it.registry.aliases["digits", "champion"] or "")
        else:
            assert why == "TargetFailed"
        expected = {} if stable is None else {stable.arm: 100}
        assert it.router.asked.get(KEY, {}) == it.router.confirmed.get(KEY, {}) == expected
        assert set(it.arms.there.get(KEY, {})) == set(expected)
        before = it.acts
        for _ in range(10):
            it.pass_time(3.0)
            it.look()
        assert it.acts == before, "it writes although nothing changes"

    def until_rest(self) -> None:
        for _ in range(600):
            self.it.pass_time(1.0)
            again = self.it.look()
            if again is None and self.it.at_rest:
                return
            step = self.it.attempt if self.it.rollouts else None
            if (
                step is not None
                and not has_ended(step)
                and step.status.verdict is not None
                and step.status.phase is Phase.PROGRESSING
            ):
                self.try_to(lambda: commands.abort(self.it.attempt))
            elif step is not None and not has_ended(step) and step.spec.resumed < step.status.step:
                self.try_to(lambda: commands.resume(self.it.attempt))
        attempt = self.it.attempt
        raise AssertionError(
            f"no rest: {attempt.spec} {attempt.status.phase} {self.it.router.asked} {self.it.arms.there}"
        )


def strategy(steps: str) -> Strategy:
    return Strategy(canary=Canary(steps=STEPS[steps], progress_deadline=Duration("30s")))


NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES = 10_000 if NIGHTLY else int(os.environ.get("EXAMPLES", "240"))


class FirstRollouts(Rollouts):
    """The same, from the very beginning."""

    begins_with_a_stable_version = False


TestRollouts = Rollouts.TestCase
TestFirstRollouts = FirstRollouts.TestCase
TestRollouts.settings = TestFirstRollouts.settings = settings(
    max_examples=EXAMPLES // 2,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize="EXAMPLES" not in os.environ and not NIGHTLY,
    phases=[Part.explicit, Part.generate, Part.shrink],
    suppress_health_check=list(HealthCheck),
)
