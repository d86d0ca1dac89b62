"""Metrics that come as counters of their own: compared like errors, and never a pass where something is missing."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import BadInput
from modelyard.rollout import analysis
from modelyard.rollout.pairs import Both, Pair, Told
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.deployment import Analysis, AnalysisGate, AnalysisMetric, AnalysisStep, MetricMargin, MetricQuery
from modelyard.statistics.evalues import AS_GOOD, Block, Null, Rates, log_e
from modelyard.units import Duration, Percentage, Quantity
from modelyard.verdict import Outcome, Reason

COUNT = MetricQuery(failures='bad{arm="$arm"}', total='all{arm="$arm"}')
MEAN = MetricQuery(sum='sum{arm="$arm"}', total='all{arm="$arm"}', bounds=(Quantity("1"), Quantity("5")))
BATCH = 20


def spec_of(query: MetricQuery = COUNT, margin: str = "5%") -> Analysis:
    metric = AnalysisMetric(name="refunds", query=query, margin=MetricMargin(type="Absolute", value=Percentage(margin)))
    return Analysis(metrics=(metric,), prometheus="http://127.0.0.1:9090")


def told(at: float, stable: Pair | None, canary: Pair | None, why: str = "") -> Both:
    arms = {name: pair for name, pair in (("s", stable), ("c", canary)) if pair is not None}
    return Both(stable="s", canary="c", metrics={"refunds": Told(at=at, arms=arms, why=why)})


def fed(readings, spec=None):
    """Evidence after pairs of readings; the router tells nothing at all."""
    spec = spec or spec_of()
    evidence = analysis.begin(spec, now=0.0)
    for at, (stable, canary) in enumerate(readings):
        evidence = analysis.look(evidence, spec, now=at, stable=None, canary=None, told=told(float(at), stable, canary))
    return evidence


def grown(values, *, before: int = 200, bad: float = 0.0) -> list[Pair]:
    """Counters that take `BATCH` values more at each reading."""
    readings, total, worse = [], before, bad
    for start in range(0, len(values), BATCH):
        readings.append(Pair(total=total, bad=worse))
        total, worse = total + BATCH, worse + sum(values[start : start + BATCH])
    return [*readings, Pair(total=total, bad=worse)]


def rolled(stable: float, canary: float, *, spec=None, looks: int = 60, seed: int = 1, values=(0.0, 1.0)):
    """Evidence of two arms whose requests are `values[1]` with these chances, else `values[0]`."""
    rng = random.Random(seed)

    def drawn(share: float) -> list[Pair]:
        return grown([values[rng.random() < share] for _ in range(BATCH * looks)], bad=200 * share)

    return fed(zip(drawn(stable), drawn(canary), strict=True), spec)


def said(evidence, spec=None, now: float = 100.0):
    return analysis.verdict(evidence, spec or spec_of(), now=now)


# counts


def test_a_canary_that_is_as_good_is_successful_without_any_counter_of_the_router():
    verdict = said(rolled(0.02, 0.02))
    assert (verdict.outcome, verdict.reason) == (Outcome.SUCCESSFUL, Reason.ANALYSIS_SUCCESSFUL)


def test_a_worse_canary_is_failed_and_both_sides_are_named():
    verdict = said(rolled(0.02, 0.3))
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, Reason.METRIC)
    assert verdict.message.startswith("refunds: ")
    assert "of the canary's" in verdict.message
    assert "of stable's" in verdict.message


def test_arms_that_are_swapped_swap_the_verdict():
    assert said(rolled(0.3, 0.02)).outcome is Outcome.SUCCESSFUL
    assert said(rolled(0.02, 0.3)).outcome is Outcome.FAILED


# means


def test_a_mean_is_compared_and_told_in_its_own_unit():
    spec = spec_of(MEAN, "10%")
    assert said(rolled(0.5, 0.5, spec=spec, values=(0.2, 0.4), looks=200), spec).outcome is Outcome.SUCCESSFUL
    bad = said(rolled(0.1, 0.9, spec=spec, values=(0.2, 0.8), looks=200), spec)
    assert bad.outcome is Outcome.FAILED
    assert "refunds: mean 3." in bad.message
    assert "mean 2." in bad.message
    assert "margin +0.4" in bad.message  # 10 % of 5 − 1


@pytest.mark.parametrize("null", [AS_GOOD, Null(above=True, shift=0.1), Null(above=True, slope=1.5)])
@pytest.mark.parametrize("bet", [Rates(0.3, 0.6), Rates(0.3, 0.3), Rates(0.5, 0.2), Rates(0.1, 0.15)])
def test_of_values_between_0_and_1_the_expectation_is_at_most_1(null, bet):
    """Exactly, over all blocks of 3 and 2 requests with values 0, 0.3, 1 and means on the null's line and inside."""
    values = (0.0, 0.3, 1.0)

    def sums(size: int, mean: float, middle: float) -> list[tuple[float, float]]:
        chance = (1 - middle - (mean - 0.3 * middle), middle, mean - 0.3 * middle)
        if min(chance) < 0:
            return []
        found = [(0.0, 1.0)]
        for _ in range(size):
            found = [(s + v, p * q) for s, p in found for v, q in zip(values, chance, strict=True)]
        return found

    tried = 0
    for base in (0.1, 0.3, 0.45):
        line = null.line(base)
        for mean in (line, line + 0.1 if null.above else line / 2):
            for middle in (0.0, 0.2, 0.45):
                left, right = sums(3, base, middle), sums(2, mean, middle)
                expected = sum(
                    p * q * math.exp(log_e(Block(3, s), Block(2, c), bet=bet, null=null))
                    for s, p in left
                    for c, q in right
                )
                tried += bool(left and right)
                assert expected <= 1 + 1e-9
    assert tried > 5


# what is missing


@pytest.mark.parametrize(
    ("canary", "message"),
    [
        (None, "nothing was counted of the canary"),
        (Pair(total=10, bad=math.nan), "nan of 10 is told of the canary"),
        (Pair(total=10, bad=12), "12 of 10 requests of the canary makes no sense"),
        (Pair(total=10, bad=-1), "-1 of 10 requests of the canary makes no sense"),
    ],
)
def test_what_is_missing_or_senseless_is_named_and_ends_inconclusive(canary, message):
    evidence = fed([(Pair(total=200 + 50 * at, bad=0), canary) for at in range(40)])
    assert evidence.missing == {"refunds": message}
    assert said(evidence) is None
    late = said(evidence, now=1e6)
    assert (late.outcome, late.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)
    assert message in late.message


def test_an_answer_that_comes_again_takes_the_complaint_away():
    readings = list(zip(grown([0.0] * 400), grown([0.0] * 400), strict=True))
    evidence = fed([(readings[0][0], None), *readings])
    assert evidence.missing == {}


def test_counters_that_stand_still_are_no_evidence():
    evidence = fed([(Pair(total=500, bad=5), Pair(total=90, bad=0))] * 300)
    assert said(evidence, now=1e6).reason is Reason.NO_EVIDENCE


def test_bad_ones_that_are_told_before_their_requests_are_waited_for_not_left_out():
    """To begin anew at each such reading would leave out the very blocks that speak against the canary."""
    stable, canary, readings = 500, 100, []
    for _ in range(80):
        stable, canary = stable + 50, canary + 20
        bad = (canary - 100) // 2
        readings += [
            (Pair(total=stable - 25, bad=5), Pair(total=canary - 20, bad=bad + 15)),  # early
            (Pair(total=stable, bad=5), Pair(total=canary, bad=bad)),
        ]
    assert said(fed(readings)).outcome is Outcome.FAILED


def test_counters_that_began_anew_are_left_out_and_counted():
    rows = grown([0.0] * 1200)
    canary = [*rows[:30], *(Pair(total=row.total - rows[30].total, bad=0) for row in rows[30:])]
    evidence = fed(zip(rows, canary, strict=True))
    assert evidence.pairs["refunds"].skipped == 1
    assert evidence.pairs["refunds"].canary.counted < 1200


def test_the_checkpoint_is_whole():
    evidence = rolled(0.5, 0.5, spec=spec_of(MEAN), values=(0.2, 0.7))
    assert from_json(analysis.Evidence, to_json(evidence)) == evidence


def test_a_query_that_cannot_be_compared_is_refused_before_it_begins():
    with pytest.raises(BadInput, match="exactly one of failures"):
        analysis.begin(spec_of(MetricQuery(total='all{arm="$arm"}')), now=0.0)
    with pytest.raises(BadInput, match="bursts: cannot act"):
        analysis.begin(replace(spec_of(MEAN), bursts=Duration("5s")), now=0.0)


# properties

VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=BATCH * 4, max_size=BATCH * 12)


@settings(max_examples=25, deadline=None)
@given(one=VALUES, other=VALUES, narrow=st.integers(1, 30), more=st.integers(1, 40))
def test_more_margin_never_turns_a_pass_into_a_failure(one, other, narrow, more):
    narrow_, wide = spec_of(MEAN, f"{narrow}%"), spec_of(MEAN, f"{narrow + more}%")
    readings = list(zip(grown(one), grown(other), strict=False))
    step = AnalysisStep(analysis=AnalysisGate(margins={"refunds": wide.metrics[0].margin.value}))
    evidence = analysis.begin(narrow_, now=0.0, steps=(step,))
    for at, both in enumerate(readings):
        evidence = analysis.look(evidence, narrow_, now=at, stable=None, canary=None, told=told(float(at), *both))
    here = analysis.verdict(evidence, narrow_, now=1.0)
    there = analysis.verdict(evidence, narrow_, now=1.0, margins=step.analysis.margins)
    assert not (here and here.lets_through and there and there.outcome is Outcome.FAILED)


@settings(max_examples=25, deadline=None)
@given(one=VALUES, other=VALUES)
def test_of_two_arms_and_the_same_swapped_one_at_most_is_failed(one, other):
    spec = spec_of(MEAN)
    both = list(zip(grown(one), grown(other), strict=False))
    here, there = (fed(way, spec).trials[0] for way in (both, [pair[::-1] for pair in both]))
    assert not (here.excess > 0 and there.excess > 0)


@settings(max_examples=20, deadline=None)
@given(kinds=st.lists(st.sampled_from(["none", "nan", "inf", "negative", "more"]), min_size=1, max_size=30))
def test_missing_or_nan_answers_never_promote(kinds):
    made = {
        "none": None, "nan": Pair(total=10, bad=math.nan), "inf": Pair(total=10, bad=math.inf),
        "negative": Pair(total=-5, bad=0), "more": Pair(total=5, bad=9),
    }  # fmt: skip
    evidence = fed([(Pair(total=100 + 50 * at, bad=0), made[kind]) for at, kind in enumerate(kinds)])
    for now in (10.0, 1e6):
        verdict = said(evidence, now=now)
        assert verdict is None or not verdict.lets_through
