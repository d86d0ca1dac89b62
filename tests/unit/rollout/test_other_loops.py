"""What always holds beside a clock that jumps, a loop that slept, a registry that errs."""

from dataclasses import replace

import pytest
from tests.fakes.world import KEY, FakeWorld, digest_of

from modelyard.errors import Conflict, Unavailable
from modelyard.rollout import commands
from modelyard.rollout.decide import decide
from modelyard.rollout.intents import Intent, Record, RetireArm, SetWeights
from modelyard.rollout.loop import apply, look, observe
from modelyard.spec.deployment import Analysis, Canary, Rollback, Strategy
from modelyard.spec.rollout import Phase
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason, Verdict


def test_what_changed_under_a_decision_stops_it_before_its_first_act(it: FakeWorld) -> None:
    it.wish(replicas=1)
    it.run(until=it.phase(Phase.SUCCESSFUL))
    it.run()
    it.alias("3")
    it.run(until=it.phase(Phase.STARTING))
    intents: tuple[Intent, ...] = ()
    while not any(isinstance(each, SetWeights) for each in intents) or not isinstance(intents[0], Record):
        assert it.attempt.status.phase is not Phase.SUCCESSFUL, "no look recorded first and acted then"
        it.look()
        it.pass_time()
        seen = observe(it.world, KEY, it.now)
        assert seen is not None
        intents = decide(seen).intents
    before = dict(it.router.asked[KEY])
    it.patch(commands.abort(it.attempt))
    with pytest.raises(Conflict):
        apply(it.world, KEY, intents[0])
    assert it.router.asked[KEY] == before


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.PROGRESSING, Phase.PROMOTING])
def test_a_clock_that_is_set_back_an_hour_costs_no_hour(phase: Phase) -> None:
    it = FakeWorld.with_stable()
    it.begin("2", until=it.phase(phase))
    it.now -= 3600.0
    start = it.now
    it.run()
    assert it.stable == "2"
    assert it.now - start < 60


def test_a_clock_that_is_set_back_keeps_a_deadline_finite(it: FakeWorld) -> None:
    it.wish(strategy=Strategy(canary=Canary(progress_deadline=Duration("30s"))))
    it.run()
    it.arms.broken[digest_of("3")] = None
    it.alias("3")
    it.run(until=it.phase(Phase.STARTING))
    it.now -= 3600.0
    start = it.now
    it.run()
    assert it.attempt.status.phase is Phase.FAILED
    assert it.now - start < 60


def test_the_old_leader_cannot_undo_what_the_new_one_did(it: FakeWorld) -> None:
    """Regression 11: the old leader goes on working beside the new one (Argo #2117)."""
    late: list[SetWeights] = []
    while not late:
        it.look()
        it.pass_time()
        seen = observe(it.world, KEY, it.now)
        assert seen is not None
        late = [each for each in decide(seen).intents if isinstance(each, SetWeights)]
    assert late[0].weights[it.arm_of("2")] == 50
    it.patch(commands.abort(it.attempt))
    it.run()
    with pytest.raises((Conflict, AssertionError)):
        apply(it.world, KEY, late[0])
    assert it.router.asked[KEY] == {it.arm_of("1"): 100}


def test_an_arm_that_a_new_attempt_took_over_cannot_be_retired_by_a_loop_that_slept(it: FakeWorld) -> None:
    it.run(until=lambda: it.stable == "2")
    late: list[RetireArm] = []
    while not late:
        seen = observe(it.world, KEY, it.now)
        assert seen is not None
        late = [each for each in decide(seen).intents if isinstance(each, RetireArm)]
        if not late:
            it.look()
            it.pass_time()
    it.patch(commands.undo(it.deployment, it.rollouts))
    it.look()
    assert it.attempt.spec.arm == late[0].name
    with pytest.raises(Conflict):
        apply(it.world, KEY, late[0])
    it.run()
    assert it.stable == "1"


def test_one_failing_registry_answer_ends_the_look_never_the_loop(it: FakeWorld) -> None:
    it.run(until=it.phase(Phase.PROMOTING))

    def away(*_args: object, **_kwargs: object) -> None:
        raise Unavailable("tags cannot be written", do="wait")

    real, it.registry.tag = it.registry.tag, away  # type: ignore[method-assign]
    it.pass_time()
    again = look(it.world, KEY, now=it.now)
    assert again is not None
    assert again > it.now
    it.registry.tag = real  # type: ignore[method-assign]
    it.run()
    assert it.stable == "2"


def test_fifty_looks_take_well_under_a_second(it: FakeWorld) -> None:
    """Regression 23: at about fifty canaries the loop takes 30 minutes instead of 5 (Flagger #638)."""
    import time

    start = time.process_time()
    for _ in range(50):
        it.pass_time(0.1)
        it.look()
    assert time.process_time() - start < 1.0


def test_a_margin_that_no_histogram_can_show_never_promotes() -> None:
    it = FakeWorld()
    metric = replace(
        Analysis().metrics[1], margin=replace(Analysis().metrics[1].margin, value=type(Analysis().miss_rate)("1%"))
    )
    it.wish(analysis=Analysis(metrics=(metric,)), rollback=Rollback(alias="Keep"))
    it.bring("1")
    it.bring("2")
    assert it.stable == "1"
    assert it.attempt.status.verdict is not None
    assert "finer than" in it.attempt.status.verdict.message


def test_a_verdict_of_the_arm_itself_is_the_attempt_s_verdict(it: FakeWorld) -> None:
    why = Verdict(outcome=Outcome.FAILED, reason=Reason.DIGEST_MISMATCH, message="sha256:1 ≠ sha256:2")
    it.arms.broken[digest_of("3")] = why
    it.alias("3")
    it.run()
    assert it.attempt.status.verdict == why
