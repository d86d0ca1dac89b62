"""Cross-validations as a rule's two sides: a recipe's mean score, and its paired gain over the champion's recipe."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from modelyard.evaluation.evidence import Folds
from modelyard.evaluation.measure import measured, point
from modelyard.evaluation.report import Metric
from modelyard.evaluation.rules import Sides, cannot, not_recorded
from modelyard.spec.gates import CrossValidation
from modelyard.statistics.repeated import corrected_t
from modelyard.verdict import Verdict

Better = Literal["higher", "lower"]


def folded(folds: Folds, asked: CrossValidation, name: str, confidence: float) -> Sides:
    """The mean over models trained anew, with an interval that knows that they share examples."""
    better = measured(folds.reports[0], name).better
    return Sides(
        candidate=_mean(_scores(folds, name), folds, asked, confidence, better),
        examples=sum(report.examples for report in folds.reports) // asked.repeats,
        advice="more examples or repeats would tell more",
    )


def paired_folds(
    mine: Folds, theirs: Folds | Verdict | None, asked: CrossValidation, name: str, confidence: float
) -> Sides:
    """The same beside the champion's: of the same parts, each pair learnt from and was asked about the same examples.

    Args:
        mine: the candidate's.
        theirs: the champion's, as its own gate recorded them; or why there are none.
        asked: how often.
        name: the metric.
        confidence: two-sided.
    """
    sides = folded(mine, asked, name, confidence)
    champion = _same_parts(mine, theirs)
    if isinstance(champion, Verdict):
        return replace(sides, missing=champion)
    better = sides.candidate.better
    sign = 1.0 if better == "higher" else -1.0
    one, other = _scores(mine, name), _scores(champion, name)
    gains = [sign * (a - b) for a, b in zip(one, other, strict=True)]
    return replace(
        sides,
        other=_mean(other, mine, asked, confidence, better),
        difference=_mean(gains, mine, asked, confidence, "higher"),
    )


def _same_parts(mine: Folds, theirs: Folds | Verdict | None) -> Folds | Verdict:
    if theirs is None:
        return not_recorded("a cross-validation of the champion")
    if isinstance(theirs, Verdict):
        return theirs
    if [one.split_digest for one in theirs.reports] != [one.split_digest for one in mine.reports]:
        return cannot("the champion was cross-validated on other data, so that its folds are no pairs of these")
    return theirs


def _scores(folds: Folds, name: str) -> list[float]:
    return [point(report, name) for report in folds.reports]


def _mean(values: Sequence[float], folds: Folds, asked: CrossValidation, confidence: float, better: Better) -> Metric:
    bounds = corrected_t(values, folds.test_to_train, confidence)
    method = f"{asked.folds} folds × {asked.repeats}, corrected t"
    return Metric(value=sum(values) / len(values), low=bounds.low, high=bounds.high, better=better, method=method)
