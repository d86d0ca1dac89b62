"""The rules of a gate: from both sides of a comparison to a verdict. Pure: what is compared was measured before.

A bound decides, never the point: Passed when the whole interval lies on the good side, Failed when all of it lies on
the bad side, else Inconclusive, with the number of examples that would do.
"""

import math

from modelyard.errors import BadInput
from modelyard.evaluation.report import Metric
from modelyard.record import record
from modelyard.spec.gates import GateRule
from modelyard.statistics.paired import Discordant, mcnemar
from modelyard.statistics.power import for_difference
from modelyard.verdict import Outcome, Reason, Verdict


@record
class Sides:
    """All that a rule looks at."""

    candidate: Metric
    champion: Metric | None = None
    difference: Metric | None = None
    """Candidate minus champion on the same examples; more is better for every metric."""
    pairs: Discordant | None = None
    """For accuracy: who was right where the other was not."""
    missing: Verdict | None = None
    """Why there is a champion that cannot be compared with."""
    examples: int
    variance: float = math.nan
    """Of one example's share in what is judged."""


@record
class Answer:
    """A rule's verdict, and how many examples would do where these do not."""

    verdict: Verdict
    needed: int | None = None


def check(rule: GateRule) -> None:
    """Refuse a rule that cannot be decided.

    Raises:
        BadInput: not exactly one comparison, or a number out of range.
    """
    given = {
        "atLeast": rule.at_least is not None,
        "atMost": rule.at_most is not None,
        "notWorseThanChampion": rule.not_worse_than_champion is not None,
        "betterThanChampion": bool(rule.better_than_champion),
    }
    named = [name for name, there in given.items() if there]
    if len(named) != 1:
        what = f"has {' and '.join(named)}" if named else "has no comparison"
        raise BadInput(f"the gate on {rule.metric} {what}", do=f"give exactly one of {', '.join(given)}")
    bounds = [value for value in (rule.at_least, rule.at_most) if value is not None]
    if any(not math.isfinite(value) for value in bounds):
        raise BadInput(f"the gate on {rule.metric} compares with {bounds[0]}", do="give a finite number")
    if rule.not_worse_than_champion is not None:
        margin = rule.not_worse_than_champion.margin
        if not (math.isfinite(margin) and margin >= 0):
            raise BadInput(
                f"the margin of the gate on {rule.metric} is {margin}", do="give a number that is not negative"
            )
    if not 0.5 < rule.confidence < 1:
        raise BadInput(f"the confidence of the gate on {rule.metric} is {rule.confidence}", do="give one like 0.95")


def needs_champion(rule: GateRule) -> bool:
    """Whether a rule compares with the champion."""
    return rule.not_worse_than_champion is not None or bool(rule.better_than_champion)


def decide(rule: GateRule, sides: Sides) -> Answer:
    """Apply one rule."""
    if needs_champion(rule):
        if sides.missing is not None:
            message = f"{rule.metric}: {sides.missing.message}"
            return Answer(verdict=Verdict(outcome=Outcome.INCONCLUSIVE, reason=sides.missing.reason, message=message))
        if sides.difference is None or sides.champion is None:
            message = f"{rule.metric} {_shown(sides.candidate)}: there is no champion yet, so nothing to compare with"
            return Answer(verdict=Verdict(outcome=Outcome.PASSED, reason=Reason.NO_CHAMPION, message=message))
        if rule.not_worse_than_champion is not None:
            return _not_worse(rule, sides, sides.difference, rule.not_worse_than_champion.margin)
        return _better(rule, sides, sides.difference)
    return _within(rule, sides)


def _within(rule: GateRule, sides: Sides) -> Answer:
    """Against a number of the rule's own."""
    metric = sides.candidate
    sign, limit, word = (
        (1.0, rule.at_least, "at least") if rule.at_least is not None else (-1.0, rule.at_most, "at most")
    )
    assert limit is not None
    low, high = sorted((sign * (metric.low - limit), sign * (metric.high - limit)))
    message = f"{rule.metric} {_shown(metric)}, wanted {word} {limit:.6g}"
    return _judged(
        low,
        high,
        message,
        sides,
        distance=abs(metric.value - limit),
        confidence=rule.confidence,
        good=Reason.WITHIN_BOUND,
        bad=Reason.OUT_OF_BOUND,
    )


def _not_worse(rule: GateRule, sides: Sides, difference: Metric, margin: float) -> Answer:
    message = f"{_both(rule, sides, difference)}, may be worse by {margin:.6g}"
    return _judged(
        difference.low + margin,
        difference.high + margin,
        message,
        sides,
        distance=abs(difference.value + margin),
        confidence=rule.confidence,
        good=Reason.NOT_WORSE,
        bad=Reason.WORSE,
    )


def _better(rule: GateRule, sides: Sides, difference: Metric) -> Answer:
    message = f"{_both(rule, sides, difference)}, must be better"
    low, high = difference.low, difference.high
    if sides.pairs is not None:
        gained, lost = sides.pairs.gained, sides.pairs.lost
        tail = (1 - rule.confidence) / 2
        up, down = mcnemar(gained, lost), mcnemar(lost, gained)
        message += f" (exact McNemar: {gained} gained, {lost} lost, p = {up:.3g})"
        low, high = (1.0, 1.0) if up <= tail else (-1.0, -1.0) if down <= tail else (-1.0, 1.0)
    elif low == 0:
        low = -1.0  # not better is not better
    return _judged(
        low,
        high,
        message,
        sides,
        distance=abs(difference.value),
        confidence=rule.confidence,
        good=Reason.BETTER,
        bad=Reason.NOT_BETTER,
    )


def _judged(
    low: float,
    high: float,
    message: str,
    sides: Sides,
    *,
    distance: float,
    confidence: float,
    good: Reason,
    bad: Reason,
) -> Answer:
    """`low` and `high`: how far the interval's ends lie on the good side."""
    if not (math.isfinite(low) and math.isfinite(high)):
        message += "; it is not defined on these examples"
        return Answer(verdict=Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.TOO_FEW_EXAMPLES, message=message))
    if low >= 0:
        return Answer(verdict=Verdict(outcome=Outcome.PASSED, reason=good, message=message))
    if high < 0:
        return Answer(verdict=Verdict(outcome=Outcome.FAILED, reason=bad, message=message))
    needed = for_difference(sides.variance, distance, confidence=confidence)
    advice = f"about {needed:,} would do" if needed else "no test set of usual size would do: it lies on the limit"
    message += f"; {sides.examples:,} examples cannot tell, {advice}"
    verdict = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.TOO_FEW_EXAMPLES, message=message)
    return Answer(verdict=verdict, needed=needed)


def _both(rule: GateRule, sides: Sides, difference: Metric) -> str:
    theirs = f"{sides.champion.value:.4g}" if sides.champion else "none"
    return (
        f"{rule.metric} {sides.candidate.value:.4g} against the champion's {theirs}: "
        f"better by {difference.value:+.4g} [{difference.low:+.4g}, {difference.high:+.4g}]"
    )


def _shown(metric: Metric) -> str:
    return f"{metric.value:.4g} [{metric.low:.4g}, {metric.high:.4g}]"
