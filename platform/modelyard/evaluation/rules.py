"""The rules of a gate: from both sides of a comparison to a verdict. Pure: what is compared was measured before.

A bound decides, never the point: Passed when the whole interval lies on the good side, Failed when all of it lies on
the bad side, else Inconclusive, with the number of examples that would do.
"""

import math
from collections.abc import Sequence

from modelyard.errors import BadInput
from modelyard.evaluation.report import Metric
from modelyard.figures import change, number
from modelyard.record import camel_case, record
from modelyard.spec.gates import COMPARISONS, NAMED_BY_COMPARISON, GateRule, comparisons, metric_of
from modelyard.statistics.paired import Discordant, mcnemar
from modelyard.statistics.power import for_difference
from modelyard.verdict import Outcome, Reason, Verdict

PAIRED = ("not_worse_than_champion", "better_than_champion", "not_worse_than_anchor")
"""Comparisons with another version on the same examples."""
WITHIN = ("at_least", "at_most", "max_calibration_error", "max_latency", "max_size")
"""Comparisons of the candidate with a number."""


@record
class Sides:
    """All that a rule looks at."""

    candidate: Metric
    other: Metric | None = None
    """What it is compared with."""
    against: str = "champion"
    """What that is, in words."""
    difference: Metric | None = None
    """Candidate minus the other; more is better for every metric. Of `maxOverfit` and `maxGap`: the gap itself."""
    pairs: Discordant | None = None
    """For accuracy: who was right where the other was not."""
    missing: Verdict | None = None
    """Why there is another version that cannot be compared with."""
    examples: int
    variance: float = math.nan
    """Of one example's share in what is judged."""
    advice: str = ""
    """What would tell more, where that is not more examples."""


@record
class Answer:
    """A rule's verdict, and how many examples would do where these do not."""

    verdict: Verdict
    needed: int | None = None


def check(rule: GateRule) -> None:
    """Refuse a rule that cannot be decided; `spec.check_gates` says more, and where in the file.

    Raises:
        BadInput: not exactly one comparison, no metric, or a number out of range.
    """
    chosen, name = comparisons(rule), metric_of(rule) or "nothing"
    if len(chosen) != 1 or rule.better_than_champion is False:
        what = f"has {' and '.join(map(camel_case, chosen))}" if chosen else "has no comparison"
        raise BadInput(
            f"the gate on {name} {what}", do=f"give exactly one of {', '.join(map(camel_case, COMPARISONS))}"
        )
    if rule.metric is None and chosen[0] not in NAMED_BY_COMPARISON:
        raise BadInput(f"the gate {camel_case(chosen[0])} names no metric", do="name one, like accuracy")
    if rule.max_gap is not None and rule.slice is None:
        raise BadInput(f"maxGap of {name} names no slice", do="name the column whose values are compared")
    bounds = [value for value in (rule.at_least, rule.at_most) if value is not None]
    if any(not math.isfinite(value) for value in bounds):
        raise BadInput(f"the gate on {name} compares with {bounds[0]}", do="give a finite number")
    allowed = rule.not_worse_than_champion or rule.not_worse_than_anchor
    limits = [rule.max_overfit, rule.max_gap, rule.max_calibration_error, allowed.margin if allowed else None]
    for limit in limits:
        if limit is not None and not (math.isfinite(limit) and limit >= 0):
            raise BadInput(f"the margin of the gate on {name} is {limit}", do="give a number that is not negative")
    if not 0.5 < rule.confidence < 1:
        raise BadInput(f"the confidence of the gate on {name} is {rule.confidence}", do="give one like 0.95")


def decide(rule: GateRule, sides: Sides) -> Answer:
    """Apply one rule."""
    name = metric_of(rule)
    if rule.max_overfit is not None or rule.max_gap is not None:
        return _gap(rule, sides)
    if comparisons(rule)[0] not in PAIRED:
        return _within(rule, sides)
    if sides.missing is not None:
        message = f"{name}: {sides.missing.message}"
        return Answer(verdict=Verdict(outcome=Outcome.INCONCLUSIVE, reason=sides.missing.reason, message=message))
    if sides.difference is None or sides.other is None:
        message = f"{name} {_shown(sides.candidate)}: there is no champion yet, so nothing to compare with"
        return Answer(verdict=Verdict(outcome=Outcome.PASSED, reason=Reason.NO_CHAMPION, message=message))
    allowed = rule.not_worse_than_champion or rule.not_worse_than_anchor
    if allowed is not None:
        return _not_worse(rule, sides, sides.difference, allowed.margin)
    return _better(rule, sides, sides.difference)


def limit_of(rule: GateRule) -> tuple[float, bool]:
    """The number that a rule holds an interval against, and whether above it is good."""
    if rule.at_least is not None:
        return rule.at_least, True
    below = (
        rule.at_most,
        rule.max_calibration_error,
        rule.max_overfit,
        rule.max_gap,
        rule.max_latency.seconds * 1000 if rule.max_latency is not None else None,
        rule.max_size.value if rule.max_size is not None else None,
    )
    for limit in below:
        if limit is not None:
            return limit, False
    allowed = rule.not_worse_than_champion or rule.not_worse_than_anchor
    return -allowed.margin if allowed else 0.0, True


def no_regression(
    name: str, lost: Sequence[str], *, champion_right: int, examples: int, missing: Verdict | None
) -> Verdict:
    """Example by example: whatever the champion answers rightly is answered rightly.

    Args:
        name: of the golden set.
        lost: what each example is that only the champion answers rightly.
        champion_right: how many it answers rightly.
        examples: of the set.
        missing: why there is a champion that cannot be compared with.
    """
    if missing is not None:
        return Verdict(outcome=Outcome.INCONCLUSIVE, reason=missing.reason, message=f"{name}: {missing.message}")
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        message = (
            f"{name}: {len(lost)} of the {champion_right} that the champion answers rightly are wrong now: "
            f"{', '.join(lost[:3])}{more}"
        )
        return Verdict(outcome=Outcome.FAILED, reason=Reason.REGRESSION, message=message)
    message = f"{name}: all {champion_right} of {examples} that the champion answers rightly are right"
    return Verdict(outcome=Outcome.PASSED, reason=Reason.NO_REGRESSION, message=message)


def _within(rule: GateRule, sides: Sides) -> Answer:
    """Against a number of the rule's own."""
    metric = sides.candidate
    limit, above = limit_of(rule)
    sign, word = (1.0, "at least") if above else (-1.0, "at most")
    low, high = sorted((sign * (metric.low - limit), sign * (metric.high - limit)))
    message = f"{metric_of(rule)} {_shown(metric)}, wanted {word} {number(limit)}"
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


def _gap(rule: GateRule, sides: Sides) -> Answer:
    """Between two splits, or two slices: at most so much."""
    limit, _ = limit_of(rule)
    gap, other = sides.difference, sides.other
    assert gap is not None
    assert other is not None
    message = (
        f"{metric_of(rule)} {number(sides.candidate.value)} against {number(other.value)} on {sides.against}: "
        f"gap {number(gap.value)} [{number(gap.low)}, {number(gap.high)}], wanted at most {limit:.6g}"
    )
    return _judged(
        limit - gap.high,
        limit - gap.low,
        message,
        sides,
        distance=abs(limit - gap.value),
        confidence=rule.confidence,
        good=Reason.WITHIN_BOUND,
        bad=Reason.OUT_OF_BOUND,
    )


def _not_worse(rule: GateRule, sides: Sides, difference: Metric, margin: float) -> Answer:
    message = f"{_both(rule, sides, difference)}, may be worse by {margin:.6g}"
    # An example set that could not show the margin even of an equal is too small, wherever the point happens to lie.
    equal = for_difference(sides.variance, margin, confidence=rule.confidence)
    blind = equal is not None and equal > sides.examples
    return _judged(
        difference.low + margin,
        difference.high + margin,
        message,
        sides,
        distance=margin if blind else abs(difference.value + margin),
        confidence=rule.confidence,
        good=Reason.NOT_WORSE,
        bad=Reason.WORSE,
        cannot=f"too small to show a margin of {margin:.6g} with 80 % power" if blind else "",
    )


def _better(rule: GateRule, sides: Sides, difference: Metric) -> Answer:
    message = f"{_both(rule, sides, difference)}, must be better"
    low, high = difference.low, difference.high
    if sides.pairs is not None:
        gained, lost = sides.pairs.gained, sides.pairs.lost
        tail = (1 - rule.confidence) / 2
        up, down = mcnemar(gained, lost), mcnemar(lost, gained)
        message += f" (exact McNemar: {gained} gained, {lost} lost, p = {number(up, 3)})"
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
    cannot: str = "",
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
    if sides.advice:
        needed, advice = None, sides.advice
    elif needed:
        advice = f"about {needed:,} would do"
    else:
        advice = "no test set of usual size would do: it lies on the limit"
    message += f"; {sides.examples:,} examples {f'are {cannot}' if cannot else 'cannot tell'}, {advice}"
    verdict = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.TOO_FEW_EXAMPLES, message=message)
    return Answer(verdict=verdict, needed=needed)


def _both(rule: GateRule, sides: Sides, difference: Metric) -> str:
    theirs = number(sides.other.value) if sides.other else "none"
    whose = "the champion's" if sides.against == "champion" else f"{sides.against}'s"
    return (
        f"{metric_of(rule)} {number(sides.candidate.value)} against {whose} {theirs}: "
        f"better by {change(difference.value)} [{change(difference.low)}, {change(difference.high)}]"
    )


def _shown(metric: Metric) -> str:
    if metric.low == metric.high:
        return number(metric.value)
    return f"{number(metric.value)} [{number(metric.low)}, {number(metric.high)}]"


def cannot(message: str, reason: Reason = Reason.CHAMPION_UNAVAILABLE) -> Verdict:
    """What cannot be compared with is inconclusive, never a pass."""
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=reason, message=message)


def not_recorded(what: str) -> Verdict:
    """The same of what was not kept."""
    return cannot(f"{what}: not recorded with this version", Reason.NOT_RECORDED)
