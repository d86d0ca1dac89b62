"""The live comparison: its verdicts, and what it makes of every kind of bad counter."""

import math
import random
from bisect import bisect_left
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import BadInput
from modelyard.rollout import analysis, bets, bursts, streams
from modelyard.rollout.evidence import HISTORY
from modelyard.rollout.observation import Counts
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisMetric,
    AnalysisStep,
    Guardrail,
    MetricMargin,
    SetWeight,
)
from modelyard.statistics.evalues import Block
from modelyard.units import Duration, Percentage
from modelyard.verdict import Outcome, Reason

BOUNDS = analysis.LATENCY_BOUNDS_MS
ERRORS = AnalysisMetric(name="error-rate", margin=MetricMargin(type="Absolute", value=Percentage("5%")))
P90 = AnalysisMetric(name="latency-p90", margin=MetricMargin(type="Relative", value=Percentage("50%")))
BOTH = Analysis(metrics=(ERRORS, P90))
ERRORS_ONLY = Analysis(metrics=(ERRORS,))


class Arm:
    """Cumulative counters of a made-up arm: answers take around 4 ms."""

    def __init__(
        self, rng: random.Random, *, errors: float = 0.0, slower: float = 1.0, more_ms: float = 0.0,
        spread: float = 0.35, of: float = 1.0,
    ) -> None:  # fmt: skip
        self.rng, self.rate, self.slower, self.more_ms, self.spread, self.of = rng, errors, slower, more_ms, spread, of
        self.requests = self.errors = 0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def serve(self, requests: int) -> "Arm":
        for _ in range(requests):
            self.requests += 1
            self.errors += self.rng.random() < self.rate
            ms = 4 * math.exp(self.spread * self.rng.gauss(0, 1)) + self.more_ms
            ms *= self.slower if self.of == 1.0 or self.rng.random() < self.of else 1.0
            self.buckets[bisect_left(BOUNDS, ms)] += 1
        return self

    def counts(self, at: float) -> Counts:
        row, total = [], 0
        for bucket in self.buckets:
            total += bucket
            row.append(total)
        return Counts(at=at, requests=self.requests, errors=self.errors, latency=tuple(row), bounds=BOUNDS)


def _roll(spec, *, seed=1, looks=2000, share=0.05, per_look=50, margins=None, base=0.0, now=0.0, spread=0.35, **canary):
    """Play a rollout until its verdict: (verdict, evidence, requests of the canary)."""
    rng = random.Random(seed)
    stable, new = Arm(rng, errors=base, spread=spread).serve(2000), Arm(rng, spread=spread, **canary)
    evidence = analysis.begin(spec, now=now)
    for at in range(looks):
        evidence = analysis.look(
            evidence, spec, now=now + at, stable=stable.counts(now + at), canary=new.counts(now + at), margins=margins
        )
        said = analysis.verdict(evidence, spec, now=now + at, margins=margins)
        if said is not None:
            return said, evidence, new.requests
        sent = sum(rng.random() < share for _ in range(per_look))
        stable.serve(per_look - sent)
        new.serve(sent)
    return None, evidence, new.requests


def _plain(at: float, requests: int, errors: int = 0) -> Counts:
    return Counts(at=at, requests=requests, errors=errors)


def _fed(readings, spec=ERRORS_ONLY):
    """Evidence after pairs of readings of stable and canary; None where one is missing."""
    evidence = analysis.begin(spec, now=0.0)
    for at, (stable, canary) in enumerate(readings):
        evidence = analysis.look(evidence, spec, now=float(at), stable=stable, canary=canary)
    return evidence


def _steady(looks: int = 40, canary_errors: int = 0):
    """Readings of two arms with 100 and 10 requests a look."""
    return [(_plain(at, 1000 + 100 * at), _plain(at, 10 * at, min(canary_errors * at, 10 * at))) for at in range(looks)]


# verdicts


@pytest.mark.parametrize("seed", range(5))
def test_a_canary_as_good_as_stable_is_successful_within_1800_requests_at_weight_5(seed):
    said, evidence, _ = _roll(BOTH, seed=seed)
    assert said.outcome == Outcome.SUCCESSFUL
    assert said.reason == Reason.ANALYSIS_SUCCESSFUL
    assert evidence.attempts.stable.counted + evidence.attempts.canary.counted < 2600


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_and_raising_canary_is_failed_within_45_of_its_requests(seed):
    said, _, canary = _roll(BOTH, seed=seed, errors=0.1, more_ms=100)
    assert said.outcome == Outcome.FAILED
    assert canary <= 48  # 10 of warm-up, 30 of minRequests, and what one look brings


def test_the_failed_metric_is_named_with_both_sides_and_the_bound():
    said, _, _ = _roll(BOTH, errors=0.3)
    assert said.reason == Reason.ERROR_RATE
    assert "error-rate" in said.message
    assert "canary" in said.message
    assert "stable" in said.message
    assert "≥" in said.message
    said, _, _ = _roll(BOTH, slower=3)
    assert said.reason == Reason.LATENCY
    assert "latency-p90" in said.message
    assert " ms" in said.message


def test_a_canary_that_is_better_is_successful():
    said, _, _ = _roll(BOTH, base=0.05, errors=0.0, slower=0.5)
    assert said.outcome == Outcome.SUCCESSFUL


def test_a_canary_that_is_worse_within_its_margin_is_not_aborted():
    wide = Analysis(metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage("20%"))),))
    assert _roll(wide, base=0.01, errors=0.05, share=0.5)[0].outcome == Outcome.SUCCESSFUL


def test_a_relative_margin_of_the_error_rate_scales_with_stable():
    relative = Analysis(metrics=(replace(ERRORS, margin=MetricMargin(type="Relative", value=Percentage("100%"))),))
    assert _roll(relative, base=0.1, errors=0.1, share=0.5)[0].outcome == Outcome.SUCCESSFUL
    assert _roll(relative, base=0.1, errors=0.4, share=0.5)[0].outcome == Outcome.FAILED


def test_a_canary_that_turns_bad_after_a_long_good_time_is_caught():
    """A stake of the alarm is kept for late changes, and old success is not carried on for ever."""
    readings = _steady(600)
    stable, canary = readings[-1]
    for at in range(1, 9):  # 80 more requests, of which 24 fail
        readings.append(
            (_plain(600 + at, stable.requests + 100 * at), _plain(600 + at, canary.requests + 10 * at, 3 * at))
        )
    evidence = _fed(readings)
    said = analysis.verdict(evidence, ERRORS_ONLY, now=700.0)
    assert said is not None
    assert said.outcome == Outcome.FAILED


def test_a_canary_that_turns_from_as_bad_to_worse_is_caught_within_100_requests():
    """Hundreds of looks at 10 % errors on both arms speak for it; a stake that begins late does not know of them."""
    readings = [(_plain(at, 1000 + 100 * at, 100 + 10 * at), _plain(at, 10 * at, at)) for at in range(600)]
    stable, canary = readings[-1]
    readings += [
        (_plain(599 + at, stable.requests + 100 * at, stable.errors + 10 * at),
         _plain(599 + at, canary.requests + 10 * at, canary.errors + 6 * at))
        for at in range(1, 11)
    ]  # fmt: skip
    assert analysis.verdict(_fed(readings[:600]), ERRORS_ONLY, now=600.0).outcome == Outcome.SUCCESSFUL
    assert analysis.verdict(_fed(readings), ERRORS_ONLY, now=610.0).outcome == Outcome.FAILED


def test_old_success_is_not_carried_on_for_ever():
    evidence = _fed(_steady(700))
    assert evidence.trials[0].log_e <= analysis.success_threshold(ERRORS_ONLY) + 3.0 + 1e-9


def test_surely_worse_but_within_the_margin_is_not_failed():
    wide = Analysis(metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage("20%"))),))
    readings = [(_plain(at, 1000 + 100 * at), _plain(at, 20 * at, at)) for at in range(300)]  # 5 % against 0 %
    evidence = _fed(readings, wide)
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


LATENCY_ONLY = Analysis(metrics=(P90,))
SAME = 0.001
"""All answers take the same time: they fall into one bucket."""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("of", [1.0, 0.5, 0.2])
def test_where_all_answers_take_the_same_time_a_canary_ten_times_slower_is_failed(seed, of):
    """Also where only a part of its answers is: beyond a bound below that bucket stable is as bad as can be."""
    said, _, canary = _roll(LATENCY_ONLY, seed=seed, spread=SAME, slower=10, of=of)
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.LATENCY)
    assert canary < 60


@pytest.mark.parametrize("slower", [1.0, 1.2, 0.5])
def test_where_all_answers_take_the_same_time_a_canary_within_its_margin_is_successful(slower):
    assert _roll(LATENCY_ONLY, spread=SAME, slower=slower)[0].outcome == Outcome.SUCCESSFUL


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
        said, evidence, _ = _roll(spec, errors=1.0, share=share)
        assert said.outcome == Outcome.FAILED
        assert min(evidence.attempts.stable.counted, evidence.attempts.canary.counted) >= 200


def test_max_duration_without_evidence_is_inconclusive():
    evidence = _fed([(_plain(0, 1000), None)] * 3)
    assert analysis.verdict(evidence, ERRORS_ONLY, now=1799.0) is None
    said = analysis.verdict(evidence, ERRORS_ONLY, now=1800.0)
    assert (said.outcome, said.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)


def test_max_duration_with_too_little_evidence_is_inconclusive_and_says_how_far_it_was():
    spec = replace(ERRORS_ONLY, max_duration=Duration("10s"))
    evidence = _fed(_steady(6), spec)
    said = analysis.verdict(evidence, spec, now=10.0)
    assert (said.outcome, said.reason) == (Outcome.INCONCLUSIVE, Reason.MAX_DURATION)
    assert "of 23.5" in said.message


def test_max_duration_counts_from_where_the_waiting_began():
    evidence = _fed([])
    assert analysis.verdict(evidence, ERRORS_ONLY, now=5000.0, since=4000.0) is None
    assert analysis.verdict(evidence, ERRORS_ONLY, now=5800.0, since=4000.0) is not None


def test_enough_evidence_at_the_last_moment_is_still_successful():
    evidence = _fed(_steady(80))
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
    for at, (stable, canary) in enumerate(_steady(200)):
        margins = wide if passed_wide is None else narrow
        evidence = analysis.look(evidence, ERRORS_ONLY, now=at, stable=stable, canary=canary, margins=margins)
        if analysis.verdict(evidence, ERRORS_ONLY, now=at, margins=margins) is not None:
            if passed_wide is not None:
                break
            passed_wide = at
    alone = next(
        at for at in range(200)
        if analysis.verdict(_fed(_steady(at)), ERRORS_ONLY, now=at) is not None
    )  # fmt: skip
    assert passed_wide < at <= alone


def test_a_margin_that_no_step_named_begins_without_evidence():
    evidence = _fed(_steady(60))
    late = {"error-rate": Percentage("6%")}
    assert analysis.verdict(evidence, ERRORS_ONLY, now=60.0, margins=late) is None
    evidence = analysis.look(
        evidence, ERRORS_ONLY, now=61, stable=_plain(61, 7100), canary=_plain(61, 610), margins=late
    )
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
            stable, canary = (_plain(at, *arm) for arm in arms)
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
    for at, (stable, canary) in enumerate(_steady(200)):  # no histogram at all
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
    bad = _steady(60, canary_errors=5)
    assert analysis.verdict(_fed(bad), ERRORS_ONLY, now=60.0).outcome == Outcome.FAILED
    stable, canary = bad[-1]  # the same arm again, its counters still full of errors
    later = [
        (_plain(60 + at, stable.requests + 100 * at), _plain(60 + at, canary.requests + 10 * at, canary.errors))
        for at in range(100)
    ]
    assert analysis.verdict(_fed(later), ERRORS_ONLY, now=160.0).outcome == Outcome.SUCCESSFUL


# bursts on one arm


BURSTS = replace(ERRORS_ONLY, bursts=Duration("10s"))


def _bursty(spec, *, seed, looks=900, rate=0.01, worse=0.0, share=0.5):
    """A rollout whose arms each fail half of their answers for 5 looks, now and then."""
    rng = random.Random(seed)
    arms, left, evidence = [[1000, 10], [0, 0]], [0, 0], analysis.begin(spec, now=0.0)
    for at in range(looks):
        for arm, requests in enumerate((round(40 * (1 - share)), round(40 * share))):
            left[arm] = 5 if rng.random() < 0.006 else left[arm] - 1
            chance = rate + worse * arm + 0.5 * (left[arm] > 0)
            arms[arm][0] += requests
            arms[arm][1] += sum(rng.random() < chance for _ in range(requests))
        evidence = analysis.look(evidence, spec, now=at, stable=_plain(at, *arms[0]), canary=_plain(at, *arms[1]))
        said = analysis.verdict(evidence, spec, now=at)
        if said is not None and said.outcome is Outcome.FAILED:
            return said
    return said


def test_bursts_that_hit_each_arm_by_itself_abort_an_identical_canary_only_where_they_are_not_reckoned_with():
    """Requests of a burst are not independent: the plain test takes them for as many (simulated)."""
    seeds = range(4)
    plain = [_bursty(ERRORS_ONLY, seed=seed) for seed in seeds]
    robust = [_bursty(BURSTS, seed=seed) for seed in seeds]
    assert sum(said is not None and said.outcome is Outcome.FAILED for said in plain) >= 1
    assert all(said is None or said.outcome is not Outcome.FAILED for said in robust)


def test_with_bursts_a_canary_that_is_worse_all_the_time_is_failed():
    said = _bursty(BURSTS, seed=1, worse=0.2)
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.ERROR_RATE)


@pytest.mark.parametrize("spec", [BURSTS, replace(BOTH, bursts=Duration("4s"))], ids=["errors", "errors and latency"])
def test_with_bursts_a_canary_as_good_as_stable_is_successful(spec):
    assert _roll(spec, base=0.01, errors=0.01, share=0.5, per_look=20)[0].outcome == Outcome.SUCCESSFUL


def test_with_bursts_a_block_lasts_three_times_as_long():
    evidence = _fed(_steady(200), BURSTS)
    assert evidence.alarms[0].blocks == 6
    assert evidence.attempts.block_s == 30.0


def test_with_bursts_a_clock_that_steps_back_begins_the_blocks_time_anew():
    readings = [(replace(s, at=s.at - 1000 * (at > 15)), replace(c, at=c.at - 1000 * (at > 15)))
                for at, (s, c) in enumerate(_steady(100))]  # fmt: skip
    assert _fed(readings, BURSTS).alarms[0].blocks == 2


@given(hits=st.integers(0, 9), others=st.integers(0, 9), size=st.integers(1, 9), cap=st.floats(0.01, 1.0))
def test_a_larger_canary_counts_as_the_mean_of_its_parts_of_stables_size(hits, others, size, cap):
    if hits + others <= size:
        return
    every = [1] * hits + [0] * others
    parts = [min(sum(part) / size, cap) for part in combinations(every, size)]
    found = bursts.capped(Block(hits + others, hits), size, cap)
    assert found == pytest.approx(sum(parts) / len(parts), abs=1e-9)


@pytest.mark.parametrize(("ns", "nc"), [(6, 6), (8, 3), (3, 8), (1, 5)])
@pytest.mark.parametrize("rates", [{0.1: 1.0}, {0.0: 0.9, 0.8: 0.1}, {0.02: 0.7, 0.5: 0.3}])
@pytest.mark.parametrize("gap", [0.01, 0.1, 0.3])
def test_a_block_of_bursts_is_worth_at_most_1_to_the_alarm_where_both_arms_have_the_same_law(ns, nc, rates, gap):
    """Exactly, over all outcomes: each arm by itself draws its rate, then its hits."""

    def chance(n, k):
        return sum(weight * math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for rate, weight in rates.items())

    total = [0.0] * len(bursts.ALARMS)
    for ks in range(ns + 1):
        for kc in range(nc + 1):
            worths, here = bursts.worths((Block(ns, ks), Block(nc, kc)), 0.05, gap), chance(ns, ks) * chance(nc, kc)
            total = [sum_ + here * math.exp(worth) for sum_, worth in zip(total, worths, strict=True)]
    assert max(total) <= 1 + 1e-12


# counters as they come


def test_a_duplicated_scrape_changes_nothing():
    once, twice = _steady(30), [pair for pair in _steady(30) for _ in range(3)]
    one, many = _fed(once), _fed(twice)
    assert one.alarms == many.alarms
    assert one.trials == many.trials


def test_a_missing_arm_is_absent_and_never_zero():
    readings = _steady(30)
    holes = [(stable if at % 3 else None, canary if at % 4 else None) for at, (stable, canary) in enumerate(readings)]
    evidence = _fed(holes)
    assert evidence.attempts.canary.counted > 200
    assert evidence.trials[0].log_e > 1
    assert evidence.tallies["error-rate"].canary_hits == 0


def test_a_reset_drops_its_block_and_goes_on():
    before, after = _steady(20), _steady(60)
    evidence = _fed([*before, *((replace(s, at=s.at + 20), replace(c, at=c.at + 20)) for s, c in after)])
    assert evidence.attempts.skipped == 1
    assert evidence.tallies["error-rate"].canary == 20 * 10 - 20 + 59 * 10
    assert analysis.verdict(evidence, ERRORS_ONLY, now=80.0).outcome == Outcome.SUCCESSFUL


def test_a_reset_of_one_arm_never_looks_like_errors():
    readings = _steady(30)
    stable, _ = readings[-1]
    restarted = [(_plain(30 + at, stable.requests + 100 * at), _plain(30 + at, 10 * at)) for at in range(20)]
    evidence = _fed([*readings, *restarted])
    assert evidence.tallies["error-rate"].canary_hits == 0


def test_a_late_reading_is_not_counted_twice():
    readings = _steady(30)
    shuffled = [*readings[:20], readings[15], readings[10], *readings[20:]]
    assert _fed(shuffled).alarms == _fed(readings).alarms


def test_a_clock_that_steps_back_stops_nothing():
    readings = [(replace(s, at=s.at - 1000 * (at > 15)), replace(c, at=c.at - 1000 * (at > 15)))
                for at, (s, c) in enumerate(_steady(30))]  # fmt: skip
    assert _fed(readings).alarms == _fed(_steady(30)).alarms


@pytest.mark.parametrize("bad", [
    {"requests": -1}, {"errors": -1}, {"errors": 10**9}, {"requests": math.nan}, {"at": math.inf}, {"errors": math.nan},
])  # fmt: skip
def test_a_reading_that_makes_no_sense_is_ignored_and_counted(bad):
    readings = _steady(30)
    stable, canary = readings[14]
    broken = [*readings[:15], (stable, replace(canary, **bad)), *readings[15:]]
    evidence = _fed(broken)
    assert evidence.ignored == 1
    assert evidence.alarms == _fed(readings).alarms


@pytest.mark.parametrize("latency", [(1,), (3, 2, 1), (-1, 0, 5), (1, math.nan, 5)])
def test_a_histogram_that_makes_no_sense_is_no_evidence(latency):
    bad = Counts(at=1.0, requests=5, errors=0, latency=latency, bounds=(1.0, 2.0))
    assert streams.answers(bad) is None


def test_histograms_with_different_bounds_are_not_compared():
    stable, canary = Arm(random.Random(1)).serve(500), Arm(random.Random(2)).serve(100)
    other = replace(canary.counts(1.0), bounds=tuple(bound * 2 for bound in BOUNDS))
    evidence = analysis.look(analysis.begin(BOTH, now=0), BOTH, now=1, stable=stable.counts(1.0), canary=other)
    assert evidence.ignored == 1


def test_warm_up_of_a_new_arm_is_left_out():
    """Its first 5 requests fail, as those of cold workers may."""
    readings = [(_plain(at, 1000 + 100 * at), _plain(at, 5 * at, min(5 * at, 5))) for at in range(100)]
    evidence = _fed(readings)
    assert evidence.tallies["error-rate"].canary_hits == 0
    assert analysis.verdict(evidence, ERRORS_ONLY, now=100.0).outcome == Outcome.SUCCESSFUL


def test_traffic_on_one_arm_alone_is_no_evidence():
    canary_only = [(_plain(at, 1000), _plain(at, 100 * at, 90 * at)) for at in range(60)]
    stable_only = [(_plain(at, 1000 + 100 * at), _plain(at, 50)) for at in range(60)]
    for readings in (canary_only, stable_only):
        evidence = _fed(readings)
        assert evidence.alarms[0].blocks == 0
        assert analysis.verdict(evidence, ERRORS_ONLY, now=60.0) is None


def test_a_block_in_which_an_arm_stood_still_for_minutes_is_dropped():
    readings = [(_plain(0, 1000), _plain(0, 100)), (_plain(1, 1100), _plain(1, 110)),
                (_plain(2, 1100), _plain(2, 210, 100)), (_plain(400, 1100), _plain(400, 310, 200)),
                (_plain(401, 1200), _plain(401, 320, 200))]  # fmt: skip
    evidence = _fed(readings, replace(ERRORS_ONLY, warmup_requests=0))
    assert evidence.attempts.skipped == 1
    assert evidence.tallies["error-rate"].canary_hits == 0


def test_nothing_is_bet_before_stable_has_a_past():
    readings = [(_plain(at, 10 * at), _plain(at, 10 * at, 10 * at)) for at in range(5)]
    assert _fed(readings, replace(ERRORS_ONLY, warmup_requests=0)).alarms[0].blocks == 0


# the checkpoint


def test_a_checkpoint_is_the_evidence():
    _, evidence, _ = _roll(BOTH)
    text = to_json(evidence)
    again = from_json(analysis.Evidence, text)
    assert again == evidence
    assert to_json(again) == text


def test_looks_go_on_from_a_checkpoint_as_if_nothing_had_happened():
    unbroken, broken = analysis.begin(ERRORS_ONLY, now=0.0), analysis.begin(ERRORS_ONLY, now=0.0)
    for at, (stable, canary) in enumerate(_steady(50, canary_errors=1)):
        unbroken = analysis.look(unbroken, ERRORS_ONLY, now=at, stable=stable, canary=canary)
        broken = from_json(analysis.Evidence, to_json(broken))
        broken = analysis.look(broken, ERRORS_ONLY, now=at, stable=stable, canary=canary)
    assert broken == unbroken


def test_its_size_does_not_grow_with_the_number_of_requests():
    short, long = _fed(_steady(300)), _fed(_steady(900))
    assert len(long.history) <= HISTORY
    assert long.history[-1].at == 899
    assert len(to_json(long)) < 1.2 * len(to_json(short))


# bad input


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (replace(BOTH, false_alarm_rate=Percentage("0%")), "falseAlarmRate"),
        (replace(BOTH, false_alarm_rate=Percentage("60%")), "falseAlarmRate"),
        (replace(BOTH, miss_rate=Percentage("0%")), "missRate"),
        (replace(BOTH, min_requests=0), "minRequests"),
        (replace(BOTH, warmup_requests=-1), "warmupRequests"),
        (replace(BOTH, max_duration=Duration("0s")), "maxDuration"),
        (replace(BOTH, bursts=Duration("2m")), "bursts"),
        (replace(BOTH, metrics=()), "nothing"),
        (replace(BOTH, metrics=(ERRORS, ERRORS)), "error-rate"),
        (replace(BOTH, metrics=(replace(ERRORS, name="error-rat"),)), "error-rat"),
        (replace(BOTH, metrics=(replace(P90, name="latency-p0"),)), "latency-p0"),
        (
            replace(BOTH, metrics=(replace(P90, margin=MetricMargin(type="Absolute", value=Percentage("5%"))),)),
            "Absolute",
        ),
        (replace(BOTH, metrics=(replace(P90, margin=MetricMargin(type="Relative", value=Percentage("2%"))),)), "finer"),
        (replace(BOTH, metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage("0%"))),)), "0%"),
        (
            replace(BOTH, metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage("100%"))),)),
            "100%",
        ),
    ],
)
def test_an_analysis_that_cannot_come_to_a_verdict_is_refused(spec, named):
    with pytest.raises(BadInput, match=named):
        analysis.begin(spec, now=0.0)


def test_a_step_that_names_a_metric_nobody_analyses_is_refused():
    steps = (AnalysisStep(analysis=AnalysisGate(margins={"latency-p99": Percentage("50%")})),)
    with pytest.raises(BadInput, match="latency-p99"):
        analysis.begin(BOTH, now=0.0, steps=steps)


# properties


@settings(max_examples=60, deadline=None)
@given(
    looks=st.lists(
        st.tuples(
            st.integers(0, 80), st.integers(0, 80), st.integers(0, 20), st.integers(0, 20), st.sampled_from("....nrxd")
        ),
        max_size=60,
    )
)
def test_whatever_the_counters_do_the_evidence_stays_finite_and_its_checkpoint_whole(looks):
    """n: canary missing; r: canary restarts; x: nonsense; d: the last reading once more."""
    stable, canary = [500, 5], [0, 0]
    evidence = analysis.begin(ERRORS_ONLY, now=0.0)
    for at, (ns, nc, ks, kc, kind) in enumerate(looks):
        if kind == "r":
            canary = [0, 0]
        if kind != "d":
            stable = [stable[0] + ns, stable[1] + min(ks, ns)]
            canary = [canary[0] + nc, canary[1] + min(kc, nc)]
        right = None if kind == "n" else _plain(at, *canary)
        if kind == "x":
            right = _plain(at, -1, 5)
        evidence = analysis.look(evidence, ERRORS_ONLY, now=at, stable=_plain(at, *stable), canary=right)
    for log in (*(alarm.log_e for alarm in evidence.alarms), *(trial.log_e for trial in evidence.trials)):
        assert math.isfinite(log)
    assert from_json(analysis.Evidence, to_json(evidence)) == evidence


@settings(max_examples=40, deadline=None)
@given(errors=st.integers(0, 9), at=st.integers(5, 39))
def test_more_errors_of_the_canary_never_help_it(errors, at):
    readings = _steady(40)
    worse = [
        (stable, replace(canary, errors=canary.errors + (errors + 1 if place >= at else 0)))
        for place, (stable, canary) in enumerate(readings)
    ]
    good, bad = _fed(readings[: at + 1]), _fed(worse[: at + 1])
    assert bad.alarms[0].log_e >= good.alarms[0].log_e
    assert bad.trials[0].log_e <= good.trials[0].log_e


@settings(max_examples=30, deadline=None)
@given(narrow=st.integers(2, 30), more=st.integers(1, 40))
def test_more_margin_is_never_harder_for_a_canary_without_errors(narrow, more):
    def evidence(points: int) -> float:
        spec = Analysis(
            metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage(f"{points}%"))),)
        )
        return _fed(_steady(12), spec).trials[0].log_e

    assert evidence(narrow + more) >= evidence(narrow) - 1e-9


BLOCKS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 60), st.integers(0, 60)), min_size=5, max_size=40
)
"""Requests of both arms, and their errors, at each look."""


def _played(blocks, spec=ERRORS_ONLY, *, swapped=False, steps=()):
    """Evidence of these blocks, both arms with the same past; the canary's warm-up is left out of the spec."""
    evidence = analysis.begin(replace(spec, warmup_requests=0), now=0.0, steps=steps)
    arms = [[200, 4], [200, 4]]
    for at, (ns, nc, ks, kc) in enumerate([(0, 0, 0, 0), *blocks]):
        for arm, (requests, hits) in zip(arms, ((ns, ks), (nc, kc)), strict=True):
            arm[0] += requests
            arm[1] += min(hits, requests)
        stable, canary = (_plain(at, *arm) for arm in (arms[::-1] if swapped else arms))
        evidence = analysis.look(evidence, spec, now=at, stable=stable, canary=canary)
    return evidence


@settings(max_examples=40, deadline=None)
@given(blocks=BLOCKS)
def test_arms_that_are_swapped_do_not_both_fail_on_average(blocks):
    """Of the estimates of both ways round, weighed alike, one at most is beyond the margin."""
    here, there = (_played(blocks, swapped=swapped).trials[0] for swapped in (False, True))
    assert not (here.excess > 0 and there.excess > 0)


@settings(max_examples=40, deadline=None)
@given(blocks=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=5, max_size=40))
def test_arms_that_do_exactly_the_same_are_never_failed(blocks):
    evidence = _played([(n, n, k, k) for n, k in blocks])
    said = analysis.verdict(evidence, ERRORS_ONLY, now=100.0)
    assert said is None or said.outcome is Outcome.SUCCESSFUL


@settings(max_examples=40, deadline=None)
@given(blocks=BLOCKS, more=st.integers(6, 60))
def test_what_is_beyond_a_wide_margin_is_beyond_a_narrow_one(blocks, more):
    wide = {"error-rate": Percentage(f"{more}%")}
    steps = (SetWeight(set_weight=5), AnalysisStep(analysis=AnalysisGate(margins=wide)))
    evidence = _played(blocks, steps=steps)
    narrow, broad = evidence.trial("error-rate", Percentage("5%")), evidence.trial("error-rate", wide["error-rate"])
    assert narrow.beyond or not broad.beyond


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["none", "nan", "negative"]), min_size=1, max_size=30))
def test_missing_empty_or_nan_evidence_never_promotes(kinds):
    made = {"none": None, "nan": _plain(math.nan, 10), "negative": _plain(1.0, -5)}
    evidence = _fed([(_plain(at, 1000 + 100 * at), made[kind]) for at, kind in enumerate(kinds)])
    for now in (10.0, 1e6):
        said = analysis.verdict(evidence, ERRORS_ONLY, now=now)
        assert said is None or not said.lets_through


# guardrails


def _railed(*rails, **changes):
    return replace(BOTH, guardrails=rails, **changes)


FAILING = Guardrail(at_most=Percentage("20%"))
SLOW = Guardrail(slower_than=Duration("20ms"), at_most=Percentage("5%"))


def test_a_guardrail_stops_a_canary_although_stable_is_as_bad():
    said, _, canary = _roll(_railed(FAILING), base=0.5, errors=0.5)
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.ERROR_RATE)
    assert "guardrail" in said.message
    assert "at most 20%" in said.message
    assert canary < 60


def test_a_guardrail_on_slow_answers_stops_a_canary_although_stable_is_as_slow():
    rng = random.Random(1)
    stable, canary, spec = Arm(rng, slower=10).serve(2000), Arm(rng, slower=10), _railed(SLOW)
    evidence = analysis.begin(spec, now=0.0)
    for at in range(30):
        evidence = analysis.look(evidence, spec, now=at, stable=stable.counts(at), canary=canary.counts(at))
        stable.serve(20)
        canary.serve(5)
    said = analysis.verdict(evidence, spec, now=30.0)
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.LATENCY)
    assert "slower than 20ms" in said.message


def test_a_guardrail_never_passes_a_canary_and_holds_up_none_that_is_within_it():
    assert _roll(_railed(FAILING, SLOW), base=0.05, errors=0.05)[0].outcome == Outcome.SUCCESSFUL
    assert _roll(_railed(FAILING, SLOW), errors=0.15)[0].outcome == Outcome.FAILED  # worse than stable, if within 20 %


def test_a_guardrail_is_about_the_canary_alone():
    assert _roll(_railed(FAILING), base=0.5, errors=0.1)[0].outcome == Outcome.SUCCESSFUL


def test_guardrails_share_the_risk_of_a_false_alarm_with_the_metrics():
    assert analysis.alarm_threshold(_railed(FAILING, SLOW)) == pytest.approx(math.log(4 / 0.01))


@pytest.mark.parametrize("requests", [1, 5, 12])
@pytest.mark.parametrize("limit", [0.01, 0.2, 0.7])
def test_a_block_is_worth_at_most_1_against_any_share_within_the_limit(requests, limit):
    """Exactly, over all outcomes."""
    for share in (0.0, limit / 3, limit):
        total = [0.0] * bets.BETS
        for hits in range(requests + 1):
            chance = math.comb(requests, hits) * share**hits * (1 - share) ** (requests - hits)
            worths = bets.above(Block(requests, hits), limit)
            total = [sum_ + chance * math.exp(worth) for sum_, worth in zip(total, worths, strict=True)]
        assert max(total) <= 1 + 1e-9


def test_a_guardrail_works_without_a_comparison_on_the_same_counters():
    spec = replace(LATENCY_ONLY, guardrails=(FAILING,))
    said, _, _ = _roll(spec, base=0.5, errors=0.5)
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.ERROR_RATE)


def test_evidence_of_guardrails_is_in_the_checkpoint_and_in_the_progress():
    _, evidence, _ = _roll(_railed(FAILING, SLOW))
    assert from_json(analysis.Evidence, to_json(evidence)) == evidence
    lines = analysis.progress(evidence, _railed(FAILING, SLOW))
    assert any("guardrail" in line and "slower than 20ms, at most 5%" in line for line in lines)


@pytest.mark.parametrize(("rails", "named"), [
    ((replace(FAILING, at_most=Percentage("0%")),), "atMost is 0%"),
    ((replace(FAILING, at_most=Percentage("100%")),), "atMost is 100%"),
    ((replace(SLOW, slower_than=Duration("90s")),), "slowerThan is 90s"),
    ((FAILING, replace(FAILING, at_most=Percentage("5%"))), "limit the same"),
])  # fmt: skip
def test_a_guardrail_that_cannot_act_is_refused(rails, named):
    with pytest.raises(BadInput, match=named):
        analysis.begin(_railed(*rails), now=0.0)
