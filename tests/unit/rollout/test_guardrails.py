"""Limits on the canary alone."""

import math
import random
from dataclasses import replace

import pytest
from tests.unit.rollout.played import BOTH, LATENCY_ONLY, Arm, roll

from modelyard.errors import BadInput
from modelyard.rollout import analysis, bets
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.deployment import (
    Guardrail,
)
from modelyard.statistics.evalues import Block
from modelyard.units import Duration, Percentage
from modelyard.verdict import Outcome, Reason


def _railed(*rails, **changes):
    return replace(BOTH, guardrails=rails, **changes)


FAILING = Guardrail(at_most=Percentage("20%"))
SLOW = Guardrail(slower_than=Duration("20ms"), at_most=Percentage("5%"))


def test_a_guardrail_stops_a_canary_although_stable_is_as_bad():
    said, _, canary = roll(_railed(FAILING), base=0.5, errors=0.5)
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
    assert roll(_railed(FAILING, SLOW), base=0.05, errors=0.05)[0].outcome == Outcome.SUCCESSFUL
    assert roll(_railed(FAILING, SLOW), errors=0.15)[0].outcome == Outcome.FAILED  # worse than stable, if within 20 %


def test_a_guardrail_is_about_the_canary_alone():
    assert roll(_railed(FAILING), base=0.5, errors=0.1)[0].outcome == Outcome.SUCCESSFUL


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
    said, _, _ = roll(spec, base=0.5, errors=0.5)
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.ERROR_RATE)


def test_evidence_of_guardrails_is_in_the_checkpoint_and_in_the_progress():
    _, evidence, _ = roll(_railed(FAILING, SLOW))
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
