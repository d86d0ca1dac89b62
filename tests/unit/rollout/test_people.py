"""What people can do to a rollout: the switches of an attempt, retry and undo, a paused wish."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.fakes.world import KEY, FakeWorld, digest_of

from modelyard.errors import BadInput
from modelyard.rollout import commands
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisStep,
    Canary,
    Pause,
    PauseStep,
    Rollback,
    SetWeight,
    Strategy,
)
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason

ABOUT_AS_GOOD = 0.02
"""Errors of a version for which the analysis takes its time."""


@pytest.fixture
def it() -> FakeWorld:
    """Version 1 is stable, version 2 at 5 % waits for its verdict."""
    world = FakeWorld(rps=20)
    world.wish()
    world.bring("1")
    world.begin("2", until=lambda: world.weight_of("2") == 5)
    return world


def retried() -> FakeWorld:
    """Version 2 failed, was mended, and became stable by a retry."""
    it = FakeWorld.with_stable()
    it.bring("2", errors=0.5)
    it.errors[digest_of("2")] = 0.0
    it.patch(commands.retry(it.deployment, it.rollouts))
    it.run()
    return it


def test_promote_skips_the_waits_but_confirms_each_weight(it: FakeWorld) -> None:
    it.counters.missing = True
    it.patch(commands.promote(it.attempt))
    weights: list[int] = []

    def watch() -> bool:
        weights.append(it.weight_of("2"))
        return it.at_rest

    it.run(until=watch)
    assert sorted(set(weights)) == [5, 50, 100]
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.reason is Reason.PROMOTED
    it.run()
    assert it.stable == "2"


def test_a_canary_that_fails_while_it_is_promoted_by_hand_is_still_rolled_back(it: FakeWorld) -> None:
    it.errors[digest_of("2")] = 0.9
    it.rps = 2000
    it.pass_time(2.0)
    it.look()
    it.pass_time(2.0)
    it.patch(commands.promote(it.attempt))
    it.run()
    assert it.stable == "1"


def test_pause_stays_at_the_step_and_resume_goes_on(it: FakeWorld) -> None:
    it.patch(commands.pause(it.attempt))
    it.rps = 2000
    it.run(until=lambda: it.now > 1_000_300.0)
    assert it.weight_of("2") == 5
    assert it.condition("Progressing") == ("True", "Paused")
    it.patch(commands.resume(it.attempt))
    it.run()
    assert it.stable == "2"


def test_a_paused_canary_that_fails_is_rolled_back_all_the_same(it: FakeWorld) -> None:
    it.patch(commands.pause(it.attempt))
    it.errors[digest_of("2")] = 0.5
    it.rps = 500
    it.run()
    assert it.attempt.status.phase is Phase.FAILED


def test_the_time_of_a_step_stands_still_in_a_pause(it: FakeWorld) -> None:
    it.counters.missing = True
    it.run(until=lambda: it.now > 1_001_000.0, seconds=5.0)
    it.patch(commands.pause(it.attempt))
    it.run(until=lambda: it.now > 1_009_000.0, seconds=20.0)
    it.patch(commands.resume(it.attempt))
    it.look()
    assert it.attempt.status.phase is Phase.PROGRESSING
    it.run(seconds=5.0)
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)


def test_a_pause_step_without_a_duration_waits_for_resume() -> None:
    it = FakeWorld()
    steps = (SetWeight(set_weight=20), PauseStep(pause=Pause()), AnalysisStep(analysis=AnalysisGate()))
    it.wish(strategy=Strategy(canary=Canary(steps=steps)))
    it.bring("1")
    it.begin("2", until=lambda: it.now > 1_001_000.0)
    assert it.attempt.status.step == 1
    it.patch(commands.resume(it.attempt))
    it.run()
    assert it.stable == "2"


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.PROGRESSING, Phase.PROMOTING])
def test_abort_works_in_every_phase_to_the_very_end(phase: Phase) -> None:
    it = FakeWorld.with_stable()
    it.begin("2", until=it.phase(phase))
    it.patch(commands.abort(it.attempt))
    it.run()
    assert it.stable == "1"
    assert it.router.confirmed[KEY] == {it.arm_of("1"): 100}
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.reason is Reason.ABORTED
    assert it.tags["2"] == "aborted"
    assert it.unanswered == {}


def test_abort_wins_over_promote(it: FakeWorld) -> None:
    it.patch(commands.promote(it.attempt))
    it.patch(commands.abort(it.attempt))
    it.run()
    assert it.stable == "1"


@pytest.mark.parametrize("what", [commands.promote, commands.pause, commands.resume, commands.abort])
def test_switches_of_an_attempt_that_has_ended_are_refused_with_the_way_out(
    what: Callable[[ModelRollout], ModelRollout],
) -> None:
    it = FakeWorld.with_stable()
    with pytest.raises(BadInput, match="Undo it"):
        what(it.attempt)
    it.bring("2", errors=0.5)
    with pytest.raises(BadInput, match="Retry it"):
        what(it.attempt)


def test_retry_makes_a_new_attempt_that_begins_without_evidence() -> None:
    it = retried()
    assert [each.metadata.name for each in it.rollouts] == ["digits-00001", "digits-00002", "digits-00003"]
    assert it.stable == "2"
    assert it.tags["2"] == "stable"
    assert it.condition("Degraded") == ("False", "AsWished")


def test_retry_works_too_where_the_alias_was_restored_and_moves_it_in_the_end() -> None:
    it = FakeWorld.with_stable(rollback=Rollback(alias="Restore"))
    it.bring("2", errors=0.5)
    assert it.registry.aliases["digits", "champion"] == "1"
    it.errors[digest_of("2")] = 0.0
    it.patch(commands.retry(it.deployment, it.rollouts))
    it.run()
    assert it.stable == "2"
    assert it.registry.aliases["digits", "champion"] == "2"
    assert len(it.rollouts) == 3


def test_undo_brings_back_what_was_stable_before_and_the_alias_does_not_undo_the_undo() -> None:
    it = FakeWorld.with_stable(rollback=Rollback(alias="Keep"))
    it.bring("2")
    it.patch(commands.undo(it.deployment, it.rollouts))
    it.run(seconds=5.0)
    it.run(until=lambda: it.now > 1_001_000.0, seconds=5.0)
    assert it.stable == "1"
    assert len(it.rollouts) == 3
    assert it.attempt.spec.steps == ()
    assert it.condition("Degraded") == ("True", "TargetFailed")


def test_undo_takes_the_alias_along_where_it_may() -> None:
    it = FakeWorld.with_stable(rollback=Rollback(alias="Restore"))
    it.bring("2")
    it.patch(commands.undo(it.deployment, it.rollouts))
    it.run()
    assert it.stable == "1"
    assert it.registry.aliases["digits", "champion"] == "1"
    assert it.condition("Degraded") == ("False", "AsWished")


def test_retry_tries_a_version_again_that_was_undone_while_the_alias_names_it() -> None:
    it = FakeWorld.with_stable(rollback=Rollback(alias="Keep"))
    it.bring("2")
    it.patch(commands.undo(it.deployment, it.rollouts))
    it.run()
    it.patch(commands.retry(it.deployment, it.rollouts))
    it.run()
    assert it.stable == "2"
    assert it.condition("Degraded") == ("False", "AsWished")


def test_undo_of_undo_is_the_version_again() -> None:
    it = FakeWorld.with_stable()
    it.bring("2")
    for stable in ("1", "2"):
        it.patch(commands.undo(it.deployment, it.rollouts))
        it.run()
        assert it.stable == stable


def test_retry_and_undo_with_nothing_to_do_are_refused() -> None:
    it = FakeWorld()
    it.wish()
    with pytest.raises(BadInput, match="has failed"):
        commands.retry(it.deployment, it.rollouts)
    it.bring("1")
    with pytest.raises(BadInput, match="no rollout of digits has failed"):
        commands.retry(it.deployment, it.rollouts)
    with pytest.raises(BadInput, match="no other stable"):
        commands.undo(it.deployment, it.rollouts)


def test_retry_and_undo_in_mid_rollout_are_refused(it: FakeWorld) -> None:
    for what in (commands.retry, commands.undo):
        with pytest.raises(BadInput, match="digits-00002 is under way"):
            what(it.deployment, it.rollouts)


def test_retry_of_what_became_stable_since_is_refused() -> None:
    it = retried()
    with pytest.raises(BadInput, match="stable already"):
        commands.retry(it.deployment, it.rollouts)


def test_a_paused_wish_is_left_alone(it: FakeWorld) -> None:
    it.wish(paused=True)
    it.look()
    assert it.condition("Progressing") == ("Unknown", "Paused")
    it.errors[digest_of("2")] = 0.9
    before = it.acts
    for _ in range(20):
        it.pass_time()
        it.look()
    assert it.acts == before
    it.wish(paused=False)
    it.rps = 500
    it.run()
    assert it.stable == "1"


def test_a_switch_in_the_rollout_survives_when_gitops_writes_the_wish_again(it: FakeWorld) -> None:
    """Regression 46: self-heal reverts a pause that was written into the wish's spec; ours stands in the attempt."""
    it.patch(commands.pause(it.attempt))
    it.records.write(replace(it.deployment, spec=replace(it.deployment.spec, replicas=2)))
    it.records.write(replace(it.deployment, spec=replace(it.deployment.spec, replicas=1)))
    it.rps = 2000
    it.run(until=lambda: it.now > 1_000_200.0)
    assert it.attempt.spec.paused
    assert it.weight_of("2") == 5


def test_an_inconclusive_analysis_can_be_held_for_people_instead_of_rolled_back() -> None:
    it = FakeWorld.with_stable(analysis=Analysis(on_inconclusive="Pause", max_duration=Duration("1m")))
    it.counters.missing = True
    it.begin("2", until=lambda: it.now > 1_000_300.0)
    verdict = it.attempt.status.verdict
    assert it.attempt.status.phase is Phase.PROGRESSING
    assert verdict is not None
    assert verdict.reason is Reason.NO_EVIDENCE
    before = it.acts
    it.run(until=lambda: it.now > 1_000_400.0)
    assert it.acts == before, "a message that counts seconds is no news"
    it.patch(commands.promote(it.attempt))
    it.run()
    assert it.stable == "2"


def test_a_version_that_came_in_by_retry_may_come_again_by_its_alias() -> None:
    it = retried()
    it.bring("3")
    it.alias("2")
    it.run()
    assert it.stable == "2"
