"""What always holds of evidence (`docs/rollout.md`), and faults of neighbouring systems that break it elsewhere."""

from dataclasses import replace

import pytest
from tests.fakes.world import KEY, FakeWorld, digest_of

from modelyard.rollout import commands
from modelyard.spec.rollout import Phase
from modelyard.verdict import Outcome, Reason


def test_without_metrics_nothing_is_promoted(it: FakeWorld) -> None:
    """Regression 13: Successful, though every measurement errored (Argo #4479)."""
    it.counters.missing = True
    it.run(seconds=10.0)
    verdict = it.attempt.status.verdict
    assert it.stable == "1"
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)


@pytest.mark.parametrize("side", ["1", "2"])
def test_one_arm_without_metrics_is_missing_not_zero(it: FakeWorld, side: str) -> None:
    """Regression 14: an empty metric answer raises an index error (Argo #1466)."""
    real, missing = it.counters.counts, it.arm_of(side)
    it.counters.counts = lambda key: {name: one for name, one in real(key).items() if name != missing}  # type: ignore[method-assign]
    it.run(seconds=10.0)
    assert it.stable == "1"
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.outcome is Outcome.INCONCLUSIVE


def test_counters_that_are_not_numbers_promote_nothing(it: FakeWorld) -> None:
    real = it.counters.counts
    it.counters.counts = lambda key: {  # type: ignore[method-assign]
        name: replace(one, errors=float("nan"), latency=(), bounds=())  # type: ignore[arg-type]
        for name, one in real(key).items()
    }
    it.run(seconds=10.0)
    assert it.stable == "1"


def test_a_failed_analysis_stops_the_rollout_at_whatever_step_it_is(it: FakeWorld) -> None:
    """Regression 13: a failed analysis does not stop the rollout (Argo #1411)."""
    it.run(until=lambda: it.weight_of("2") == 50)
    it.errors[digest_of("2")] = 0.5
    it.run()
    assert it.attempt.status.phase is Phase.FAILED


def test_a_retry_is_not_judged_by_the_measurements_of_the_attempt_before(it: FakeWorld) -> None:
    """Regression 17: retry of an aborted rollout aborts at once on the old measurements (Argo #2824, #2897)."""
    it.errors[digest_of("2")] = 0.9
    it.run()
    it.errors[digest_of("2")] = 0.0
    it.patch(commands.retry(it.deployment, it.rollouts))
    it.run()
    assert it.stable == "2"


def test_a_new_version_inherits_no_pass_of_the_one_before(it: FakeWorld) -> None:
    """Regression 21: a new revision in mid-analysis inherits the passes of the old one (Flagger #30)."""
    it.run(until=lambda: it.weight_of("2") == 50)
    it.errors[digest_of("3")] = 0.4
    it.alias("3")
    it.run()
    assert it.attempt.spec.version == "3"
    assert it.attempt.status.phase is Phase.FAILED
    events = [each["event"] for each in it.attempt.status.timeline]
    assert "Weight50" not in events


def test_an_identical_version_is_not_aborted_while_the_base_rate_drifts_with_the_weights() -> None:
    """Regression 43: totals pooled over changing weights abort an identical version (Simpson's paradox)."""
    it = FakeWorld(rps=500)
    it.wish()
    it.bring("1")
    it.version("2")
    it.alias("2")

    def drift() -> bool:
        rate = 0.30 if it.weight_of("2") >= 50 else 0.02
        it.errors[digest_of("1")] = it.errors[digest_of("2")] = rate
        return it.stable == "2"

    it.run(until=drift)


def test_evidence_is_written_at_most_every_ten_seconds_and_before_each_act(it: FakeWorld) -> None:
    it.rps = 40
    it.run(until=lambda: it.now >= 1_000_020.0)
    before, start = it.records.writes, it.now
    it.patch(commands.pause(it.attempt))
    it.run(until=lambda: it.now >= start + 100.0)
    assert it.records.writes - before <= 4 + 10
    it.patch(commands.abort(it.attempt))
    it.look()
    assert it.attempt.status.phase is Phase.ROLLING_BACK
    kept = it.attempt.status.analysis["attempts"]["canary"]["counted"]
    assert kept == it.memory[KEY].evidence.attempts.canary.counted  # type: ignore[union-attr]


def test_a_loop_that_starts_again_goes_on_from_the_checkpoint(it: FakeWorld) -> None:
    it.patch(commands.pause(it.attempt))
    it.run(until=lambda: it.now >= 1_000_060.0)
    counted = it.attempt.status.analysis["attempts"]["canary"]["counted"]
    assert counted > 0
    it.memory.clear()
    it.look()
    evidence = it.memory[KEY].evidence
    assert evidence is not None
    assert evidence.attempts.canary.counted >= counted


def test_a_checkpoint_that_another_release_wrote_is_gathered_anew_and_wedges_nothing(it: FakeWorld) -> None:
    status = replace(it.attempt.status, analysis={"of": "another release"})
    it.records.write(replace(it.attempt, status=status))
    it.memory.clear()
    it.run()
    assert it.stable == "2"
    it.records.write(replace(it.attempt, status=replace(it.attempt.status, analysis={"of": "another release"})))
    it.memory.clear()
    it.bring("3")
    assert it.stable == "3"
