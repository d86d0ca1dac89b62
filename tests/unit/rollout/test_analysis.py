"""The verdicts of the analysis, and what always holds."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from tests.unit.rollout.played import (
    BOTH,
    BOUNDS,
    ERRORS,
    ERRORS_ONLY,
    LATENCY_ONLY,
    P90,
    Arm,
    fed,
    plain,
    roll,
    steady,
)

from modelyard.errors import BadInput
from modelyard.rollout import analysis, bets, bursts
from modelyard.rollout.observation import Counts
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisStep,
    MetricMargin,
    SetWeight,
)
from modelyard.units import Duration, Percentage
from modelyard.verdict import Outcome, Reason

# verdicts


@pytest.mark.parametrize("seed", range(5))
def test_a_canary_as_good_as_stable_is_successful_within_1800_requests_at_weight_5(seed):
    said, evidence, _ = roll(BOTH, seed=seed)
    assert said.outcome == Outcome.SUCCESSFUL
    assert said.reason == Reason.ANALYSIS_SUCCESSFUL
    assert evidence.attempts.stable.counted + evidence.attempts.canary.counted < 2600


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_and_raising_canary_is_failed_within_45_of_its_requests(seed):
    said, _, canary = roll(BOTH, seed=seed, errors=0.1, more_ms=100)
    assert said.outcome == Outcome.FAILED
    assert canary <= 48  # 10 of warm-up, 30 of minRequests, and what one look brings


def test_the_failed_metric_is_named_with_both_sides_and_the_bound():
    said, _, _ = roll(BOTH, errors=0.3)
    assert said.reason == Reason.ERROR_RATE
    assert "error-rate" in said.message
    assert "canary" in said.message
    assert "stable" in said.message
    assert "≥" in said.message
    said, _, _ = roll(BOTH, slower=3)
    assert said.reason == Reason.LATENCY
    assert "latency-p90" in said.message
    assert " ms" in said.message


def test_a_canary_that_is_better_is_successful():
    said, _, _ = roll(BOTH, base=0.05, errors=0.0, slower=0.5)
    assert said.outcome == Outcome.SUCCESSFUL


def test_a_canary_that_is_worse_within_its_margin_is_not_aborted():
    wide = Analysis(metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage("20%"))),))
    assert roll(wide, base=0.01, errors=0.05, share=0.5)[0].outcome == Outcome.SUCCESSFUL


def test_a_relative_margin_of_the_error_rate_scales_with_stable():
    relative = Analysis(metrics=(replace(ERRORS, margin=MetricMargin(type="Relative", value=Percentage("100%"))),))
    assert roll(relative, base=0.1, errors=0.1, share=0.5)[0].outcome == Outcome.SUCCESSFUL
    assert roll(relative, base=0.1, errors=0.4, share=0.5)[0].outcome == Outcome.FAILED


def test_a_canary_that_turns_bad_after_a_long_good_time_is_caught():
    """A stake of the alarm is kept for late changes, and old success is not carried on for ever."""
    readings = steady(600)
    stable, canary = readings[-1]
    for at in range(1, 9):  # 80 more requests, of which 24 fail
        readings.append(
            (plain(600 + at, stable.requests + 100 * at), plain(600 + at, canary.requests + 10 * at, 3 * at))
        )
    evidence = fed(readings)
    said = analysis.verdict(evidence, ERRORS_ONLY, now=700.0)
    assert said is not None
    assert said.outcome == Outcome.FAILED


def test_a_canary_that_turns_from_as_bad_to_worse_is_caught_within_100_requests():
    """Hundreds of looks at 10 % errors on both arms speak for it; a stake that begins late does not know of them."""
    readings = [(plain(at, 1000 + 100 * at, 100 + 10 * at), plain(at, 10 * at, at)) for at in range(600)]
    stable, canary = readings[-1]
    readings += [
        (plain(599 + at, stable.requests + 100 * at, stable.errors + 10 * at),
         plain(599 + at, canary.requests + 10 * at, canary.errors + 6 * at))
        for at in range(1, 11)
    ]  # fmt: skip
    assert analysis.verdict(fed(readings[:600]), ERRORS_ONLY, now=600.0).outcome == Outcome.SUCCESSFUL
    assert analysis.verdict(fed(readings), ERRORS_ONLY, now=610.0).outcome == Outcome.FAILED


def test_old_success_is_not_carried_on_for_ever():
    evidence = fed(steady(700))
    assert evidence.trials[0].log_e <= analysis.success_threshold(ERRORS_ONLY) + 3.0 + 1e-9


def test_surely_worse_but_within_the_margin_is_not_failed():
    wide = Analysis(metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage("20%"))),))
    readings = [(plain(at, 1000 + 100 * at), plain(at, 20 * at, at)) for at in range(300)]  # 5 % against 0 %
    evidence = fed(readings, wide)
    assert evidence.alarms[0].log_e > analysis.alarm_threshold(wide)
    assert analysis.verdict(evidence, wide, now=300.0).outcome == Outcome.SUCCESSFUL


def test_all_metrics_share_the_risk_of_a_false_alarm():
    assert analysis.alarm_threshold(ERRORS_ONLY) == pytest.approx(math.log(1 / 0.01))
    assert analysis.alarm_threshold(BOTH) == pytest.approx(math.log(2 / 0.01))
    assert analysis.success_threshold(BOTH) == pytest.approx(math.log(1 / 0.05 / analysis.SPENT))
    assert analysis.SPENT <= 1


def test_no_more_is_staked_than_there_is():
    assert sum(bets.STAKES) == pytest.approx(1)
    assert len(bets.STAKES) == len(bursts.ALARMS) == bets.BETS


def test_one_metric_that_is_not_yet_sure_holds_the_verdict_back():
    slow = replace(BOTH, max_duration=Duration("10h"))
    rng = random.Random(3)
    stable, canary = Arm(rng).serve(2000), Arm(rng, slower=1.2)
    evidence = analysis.begin(slow, now=0.0)
    errors_sure = 0
    for at in range(60):
        evidence = analysis.look(evidence, slow, now=at, stable=stable.counts(at), canary=canary.counts(at))
        sure = {trial.metric: trial.log_e >= analysis.success_threshold(slow) for trial in evidence.trials}
        if sure["error-rate"] and not sure["latency-p90"]:
            errors_sure += 1
            assert analysis.verdict(evidence, slow, now=at) is None
        stable.serve(20)
        canary.serve(5)
    assert errors_sure > 5


@pytest.mark.parametrize("margin", [0.1, 0.25, 0.5, 1.0])
def test_the_bound_for_the_canary_never_lies_above_the_margin(margin):
    """So that a canary that is slower by the margin or more belongs to the null, and `missRate` holds for it."""
    rng = random.Random(1)
    stable, canary = Arm(rng).serve(3000), Arm(rng).serve(1)
    evidence = analysis.begin(BOTH, now=0.0)
    evidence = analysis.look(evidence, BOTH, now=0, stable=stable.counts(0), canary=canary.counts(0))
    at = bets.bounds_of(evidence.answers, "latency-p90", margin)
    x, y, z = BOUNDS[at.stable], BOUNDS[at.canary], BOUNDS[at.alarm]
    assert x <= 4 * math.exp(0.35 * 1.2816) * 1.05
    assert evidence.answers.stable.share_over(at.stable) >= 0.1 > evidence.answers.stable.share_over(at.alarm)
    assert z / x == pytest.approx(1.0488, abs=1e-3)
    assert y <= x * (1 + margin) * bets.SLACK
    assert BOUNDS[at.canary + 1] > x * (1 + margin) * bets.SLACK


SAME = 0.001
"""All answers take the same time: they fall into one bucket."""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("of", [1.0, 0.5, 0.2])
def test_where_all_answers_take_the_same_time_a_canary_ten_times_slower_is_failed(seed, of):
    """Also where only a part of its answers is: beyond a bound below that bucket stable is as bad as can be."""
    said, _, canary = roll(LATENCY_ONLY, seed=seed, spread=SAME, slower=10, of=of)
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.LATENCY)
    assert canary < 60


@pytest.mark.parametrize("slower", [1.0, 1.2, 0.5])
def test_where_all_answers_take_the_same_time_a_canary_within_its_margin_is_successful(slower):
    assert roll(LATENCY_ONLY, spread=SAME, slower=slower)[0].outcome == Outcome.SUCCESSFUL


@pytest.mark.parametrize("seed", range(4))
def test_where_all_answers_take_the_same_time_nothing_speaks_for_a_canary_whose_percentile_is_beyond_its_margin(seed):
    """12 % of its answers take ten times as long, so its p90 is ten times stable's."""
    rng = random.Random(seed)
    stable, canary = Arm(rng, spread=SAME).serve(3000), Arm(rng, spread=SAME, slower=10, of=0.12)
    evidence = analysis.begin(LATENCY_ONLY, now=0.0)
    for at in range(100):
        evidence = analysis.look(evidence, LATENCY_ONLY, now=at, stable=stable.counts(at), canary=canary.counts(at))
        assert evidence.trials[0].log_e < analysis.success_threshold(LATENCY_ONLY)
        stable.serve(50)
        canary.serve(20)


def test_no_verdict_before_min_requests_on_both_arms():
    for share in (0.02, 0.98):  # a poor canary, then a poor stable
        spec = replace(ERRORS_ONLY, min_requests=200, warmup_requests=0)
        said, evidence, _ = roll(spec, errors=1.0, share=share)
        assert said.outcome == Outcome.FAILED
        assert min(evidence.attempts.stable.counted, evidence.attempts.canary.counted) >= 200


def test_max_duration_without_evidence_is_inconclusive():
    evidence = fed([(plain(0, 1000), None)] * 3)
    assert analysis.verdict(evidence, ERRORS_ONLY, now=1799.0) is None
    said = analysis.verdict(evidence, ERRORS_ONLY, now=1800.0)
    assert (said.outcome, said.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)


def test_max_duration_with_too_little_evidence_is_inconclusive_and_says_how_far_it_was():
    spec = replace(ERRORS_ONLY, max_duration=Duration("10s"))
    evidence = fed(steady(6), spec)
    said = analysis.verdict(evidence, spec, now=10.0)
    assert (said.outcome, said.reason) == (Outcome.INCONCLUSIVE, Reason.MAX_DURATION)
    assert "of 23.5" in said.message


def test_max_duration_counts_from_where_the_waiting_began():
    evidence = fed([])
    assert analysis.verdict(evidence, ERRORS_ONLY, now=5000.0, since=4000.0) is None
    assert analysis.verdict(evidence, ERRORS_ONLY, now=5800.0, since=4000.0) is not None


def test_enough_evidence_at_the_last_moment_is_still_successful():
    evidence = fed(steady(80))
    assert analysis.verdict(evidence, ERRORS_ONLY, now=99999.0).outcome == Outcome.SUCCESSFUL


def test_evidence_is_carried_on_when_the_margin_narrows():
    wide, narrow = {"error-rate": Percentage("10%")}, {}
    steps = (
        SetWeight(set_weight=5),
        AnalysisStep(analysis=AnalysisGate(margins=wide)),
        AnalysisStep(analysis=AnalysisGate()),
    )
    evidence = analysis.begin(ERRORS_ONLY, now=0.0, steps=steps)
    passed_wide = None
    for at, (stable, canary) in enumerate(steady(200)):
        margins = wide if passed_wide is None else narrow
        evidence = analysis.look(evidence, ERRORS_ONLY, now=at, stable=stable, canary=canary, margins=margins)
        if analysis.verdict(evidence, ERRORS_ONLY, now=at, margins=margins) is not None:
            if passed_wide is not None:
                break
            passed_wide = at
    alone = next(
        at for at in range(200)
        if analysis.verdict(fed(steady(at)), ERRORS_ONLY, now=at) is not None
    )  # fmt: skip
    assert passed_wide < at <= alone


def test_a_margin_that_no_step_named_begins_without_evidence():
    evidence = fed(steady(60))
    late = {"error-rate": Percentage("6%")}
    assert analysis.verdict(evidence, ERRORS_ONLY, now=60.0, margins=late) is None
    evidence = analysis.look(evidence, ERRORS_ONLY, now=61, stable=plain(61, 7100), canary=plain(61, 610), margins=late)
    assert evidence.trial("error-rate", Percentage("6%")).log_e < 2


# what always holds


def test_identical_arms_are_not_aborted_when_weights_and_base_rates_move_together():
    """Totals pooled over time abort an identical version every time (regression 43, Simpson's paradox; simulated)."""
    aborted = 0
    for seed in range(12):
        rng = random.Random(seed)
        arms, evidence = [[2000, 20], [0, 0]], analysis.begin(ERRORS_ONLY, now=0.0)
        for at in range(300):
            share, rate = (0.05, 0.01) if at < 150 else (0.5, 0.2)
            sent = round(20 * share) if at >= 150 else int(rng.random() < 20 * share)
            for arm, requests in zip(arms, (20 - sent, sent), strict=True):
                arm[0] += requests
                arm[1] += sum(rng.random() < rate for _ in range(requests))
            stable, canary = (plain(at, *arm) for arm in arms)
            evidence = analysis.look(evidence, ERRORS_ONLY, now=at, stable=stable, canary=canary)
            said = analysis.verdict(evidence, ERRORS_ONLY, now=at)
            if said is not None and said.outcome == Outcome.FAILED:
                aborted += 1
                break
    assert aborted <= 1  # 1 % each


def test_a_change_of_10_percent_is_seen_by_the_buckets():
    """Default latency buckets (10, 25, 50, 100, 250 ms) cannot see a change of 10 % (regression 44)."""
    ten = replace(P90, margin=MetricMargin(type="Relative", value=Percentage("10%")))
    analysis.check(Analysis(metrics=(ten,)))
    with pytest.raises(BadInput, match="finer than the buckets"):
        analysis.check(Analysis(metrics=(ten,)), (10, 25, 50, 100, 250))
    ratios = [later / earlier for earlier, later in pairwise(BOUNDS)]
    assert max(ratios) <= 1.1 + 1e-9
    assert (BOUNDS[0], BOUNDS[-1]) == (0.5, 20_000)


def test_successful_needs_every_metric_although_all_measurements_of_one_failed():
    """Successful, though every measurement errored (Argo Rollouts #4479, regression 13)."""
    evidence = analysis.begin(BOTH, now=0.0)
    for at, (stable, canary) in enumerate(steady(200)):  # no histogram at all
        evidence = analysis.look(evidence, BOTH, now=at, stable=stable, canary=canary)
        assert analysis.verdict(evidence, BOTH, now=at) is None
    assert evidence.ignored == 200
    said = analysis.verdict(evidence, BOTH, now=9999.0)
    assert (said.outcome, said.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)


def test_an_empty_answer_is_no_error_and_no_evidence():
    """An empty metric answer raises an index error (Argo Rollouts #1466, regression 14)."""
    empty = Counts(at=1.0, requests=0, errors=0, latency=(), bounds=())
    evidence = analysis.begin(BOTH, now=0.0)
    for at in range(5):
        evidence = analysis.look(evidence, BOTH, now=at, stable=empty, canary=empty)
        evidence = analysis.look(evidence, BOTH, now=at, stable=None, canary=None)
    assert analysis.verdict(evidence, BOTH, now=10.0) is None


def test_a_new_attempt_does_not_inherit_old_measurements():
    """Retry aborts at once on the old measurements (Argo #2824, #2897); passes are inherited (Flagger #30)."""
    bad = steady(60, canary_errors=5)
    assert analysis.verdict(fed(bad), ERRORS_ONLY, now=60.0).outcome == Outcome.FAILED
    stable, canary = bad[-1]  # the same arm again, its counters still full of errors
    later = [
        (plain(60 + at, stable.requests + 100 * at), plain(60 + at, canary.requests + 10 * at, canary.errors))
        for at in range(100)
    ]
    assert analysis.verdict(fed(later), ERRORS_ONLY, now=160.0).outcome == Outcome.SUCCESSFUL
