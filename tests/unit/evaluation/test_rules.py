"""The rules: a bound decides, and not knowing is an answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import BadInput
from modelyard.evaluation.report import Metric
from modelyard.evaluation.rules import Sides, check, decide
from modelyard.spec.gates import Anchor, GateRule, Margin
from modelyard.statistics.paired import Discordant
from modelyard.verdict import Outcome, Reason, Verdict


def metric(low, value, high):
    return Metric(value=value, low=low, high=high)


def decided(rule, low, value, high, **more):
    if rule.at_least is not None or rule.at_most is not None:
        sides = Sides(candidate=metric(low, value, high), examples=500, variance=0.1, **more)
    else:
        sides = Sides(candidate=metric(0.9, 0.95, 0.97), other=metric(0.9, 0.95, 0.97),
                      difference=metric(low, value, high), examples=500, variance=0.03, **more)  # fmt: skip
    return decide(rule, sides)


LEAST = GateRule(metric="accuracy", at_least=0.9)
MOST = GateRule(metric="log-loss", at_most=0.2)
NOT_WORSE = GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=0.02))
BETTER = GateRule(metric="f1-macro", better_than_champion=True)


@pytest.mark.parametrize(
    ("rule", "interval", "outcome", "reason"),
    [
        pytest.param(LEAST, (0.9, 0.93, 0.95), "Passed", "WithinBound", id="the lower bound reaches atLeast"),
        pytest.param(LEAST, (0.899, 0.95, 0.97), "Inconclusive", "TooFewExamples", id="only the point reaches atLeast"),
        pytest.param(LEAST, (0.8, 0.85, 0.9), "Inconclusive", "TooFewExamples", id="the upper bound reaches atLeast"),
        pytest.param(LEAST, (0.8, 0.85, 0.89), "Failed", "OutOfBound", id="all of it is below atLeast"),
        pytest.param(MOST, (0.1, 0.15, 0.2), "Passed", "WithinBound", id="the upper bound keeps atMost"),
        pytest.param(MOST, (0.1, 0.15, 0.21), "Inconclusive", "TooFewExamples", id="only the point keeps atMost"),
        pytest.param(MOST, (0.21, 0.25, 0.3), "Failed", "OutOfBound", id="all of it is above atMost"),
        pytest.param(NOT_WORSE, (-0.02, -0.01, 0.0), "Passed", "NotWorse", id="the bound is within the margin"),
        pytest.param(NOT_WORSE, (-0.021, 0.01, 0.03), "Inconclusive", "TooFewExamples", id="only the point is"),
        pytest.param(NOT_WORSE, (-0.05, -0.04, -0.021), "Failed", "Worse", id="all of it is beyond the margin"),
        pytest.param(BETTER, (0.001, 0.01, 0.02), "Passed", "Better", id="all of it is better"),
        pytest.param(BETTER, (0.0, 0.0, 0.0), "Inconclusive", "TooFewExamples", id="equal is not better"),
        pytest.param(BETTER, (-0.02, -0.01, -0.001), "Failed", "NotBetter", id="all of it is worse"),
        pytest.param(LEAST, (math.nan, math.nan, math.nan), "Inconclusive", "TooFewExamples", id="NaN never passes"),
        pytest.param(NOT_WORSE, (-math.inf, 0.5, math.inf), "Inconclusive", "TooFewExamples", id="no interval"),
    ],
)
def test_a_bound_decides_and_never_the_point(rule, interval, outcome, reason):
    answer = decided(rule, *interval)
    assert (answer.verdict.outcome, answer.verdict.reason) == (outcome, reason)
    assert rule.metric in answer.verdict.message


def test_inconclusive_says_how_many_examples_would_do():
    answer = decided(LEAST, 0.88, 0.93, 0.96)
    assert answer.needed == math.ceil((1.959964 + 0.841621) ** 2 * 0.1 / 0.03**2)
    assert f"{answer.needed:,} would do" in answer.verdict.message


def test_what_is_not_defined_is_said_to_be_so():
    answer = decided(LEAST, math.nan, math.nan, math.nan)
    assert "not defined" in answer.verdict.message
    assert answer.needed is None


def test_on_the_limit_no_number_would_do():
    assert decided(LEAST, 0.85, 0.9, 0.95).needed is None


@pytest.mark.parametrize(("gained", "lost", "outcome"), [
    (10, 1, Outcome.PASSED), (9, 2, Outcome.INCONCLUSIVE), (2, 9, Outcome.INCONCLUSIVE), (1, 10, Outcome.FAILED),
    (0, 0, Outcome.INCONCLUSIVE), (5, 0, Outcome.INCONCLUSIVE), (6, 0, Outcome.PASSED),
])  # fmt: skip
def test_better_accuracy_is_decided_by_mcnemars_exact_test(gained, lost, outcome):
    """Two-sided at 5 %: 6 of 6 has p = 0.031, 5 of 5 p = 0.063."""
    rule = GateRule(metric="accuracy", better_than_champion=True)
    answer = decided(rule, 0.001, 0.01, 0.02, pairs=Discordant(gained, lost, 500))
    assert answer.verdict.outcome == outcome
    assert f"{gained} gained, {lost} lost" in answer.verdict.message


def test_without_a_champion_a_comparison_passes_and_says_so():
    answer = decide(NOT_WORSE, Sides(candidate=metric(0.9, 0.95, 0.97), examples=500))
    assert (answer.verdict.outcome, answer.verdict.reason) == (Outcome.PASSED, Reason.NO_CHAMPION)
    assert "no champion" in answer.verdict.message


def test_a_champion_that_cannot_be_had_is_inconclusive_with_its_reason():
    gone = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.CHAMPION_UNAVAILABLE, message="version 3 is gone")
    answer = decide(NOT_WORSE, Sides(candidate=metric(0.9, 0.95, 0.97), missing=gone, examples=500))
    assert (answer.verdict.outcome, answer.verdict.reason) == (Outcome.INCONCLUSIVE, Reason.CHAMPION_UNAVAILABLE)
    assert "version 3 is gone" in answer.verdict.message
    assert decide(LEAST, Sides(candidate=metric(0.95, 0.96, 0.97), missing=gone, examples=500)).verdict.lets_through


@pytest.mark.parametrize("rule", [
    GateRule(metric="accuracy"),
    GateRule(metric="accuracy", at_least=0.5, at_most=0.9),
    GateRule(metric="accuracy", better_than_champion=False),
    GateRule(metric="accuracy", at_least=math.nan),
    GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=-0.1)),
    GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=math.inf)),
    GateRule(metric="accuracy", at_least=0.5, confidence=1.0),
    GateRule(metric="accuracy", at_least=0.5, confidence=0.3),
])  # fmt: skip
def test_a_rule_that_cannot_be_decided_is_refused(rule):
    with pytest.raises(BadInput, match="accuracy"):
        check(rule)


@given(low=st.floats(-1, 0.5), more=st.floats(0, 0.5), margin=st.floats(0, 0.5), wider=st.floats(0, 0.5))
def test_more_margin_never_turns_passed_into_failed(low, more, margin, wider):
    order = {"Failed": 0, "Inconclusive": 1, "Passed": 2}

    def outcome(allowed):
        rule = GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=allowed))
        return order[decided(rule, low, low + more / 2, low + more).verdict.outcome]

    assert outcome(margin + wider) >= outcome(margin)


NUMBERS = st.one_of(st.just(math.nan), st.floats(-1, 1))


@given(low=NUMBERS, value=NUMBERS, high=NUMBERS)
@pytest.mark.parametrize("rule", [
    LEAST, MOST, NOT_WORSE, BETTER, GateRule(metric="accuracy", max_overfit=0.5), GateRule(max_calibration_error=0.9),
    GateRule(metric="accuracy", max_gap=0.5, slice="region"),
    GateRule(metric="accuracy", not_worse_than_anchor=Anchor(version="1", margin=0.9)),
])  # fmt: skip
def test_nan_in_an_interval_never_promotes(rule, low, value, high):
    if not (math.isnan(low) or math.isnan(high)):
        return
    sides = Sides(candidate=metric(low, value, high), other=metric(0.1, 0.2, 0.3), difference=metric(low, value, high),
                  examples=500)  # fmt: skip
    assert decide(rule, sides).verdict.outcome == Outcome.INCONCLUSIVE
