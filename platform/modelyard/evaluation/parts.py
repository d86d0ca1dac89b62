"""Metrics that are made of proportions and rankings of single classes: intervals of their means and differences.

Each part has a score interval of its own, which has a width at 0 and 1 too. Parts are not independent: the same
examples are in all of them, most of all in the same class of two models. How much they move together is estimated from
what each example does to each part, and the distances to the bounds add as correlated standard errors do (Zou and
Donner, Statistics in Medicine 27, 2008, 1693–1702; for paired rankings Newcombe, ibid. 25, 2006, 559–573).
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.evaluation.influence import interval
from modelyard.statistics.combined import auroc_interval, f1_interval
from modelyard.statistics.intervals import Interval, wilson, wilson_of

Array = npt.NDArray[Any]


class Estimate(NamedTuple):
    """One class's part of a metric."""

    value: float
    low: float
    high: float
    influence: Array
    """What each example does to it (N,)."""


class Weighed(NamedTuple):
    """A part and its weight in a sum; negative where it is subtracted."""

    weight: float
    part: Estimate


def together(parts: Iterable[Weighed]) -> Interval:
    """Interval for Σ weight·value.

    With the distances d to the parts' bounds, signed like the weights, and their correlations R the sum's distance is
    √(dᵀRd) = |Σ d·z/|z|| for the influences z. One more example counts in each |z|, which moves that part alone and as
    much as any that was seen: two models that never differed on so few examples are not known to be the same.
    """
    centre = 0.0
    down: Any = 0.0
    up: Any = 0.0
    apart_down = apart_up = 0.0
    for weight, (value, low, high, influence) in parts:
        centre += weight * value
        squares = float(influence @ influence)
        length = math.sqrt(squares + float(np.max(influence**2, initial=0.0)))
        shared = squares / length**2 if length else 0.0
        below, above = weight * (value - low), weight * (high - value)
        if weight < 0:
            below, above = above, below
        direction = influence / length if length else influence
        down, up = down + below * direction, up + above * direction
        apart_down += below**2 * (1 - shared)
        apart_up += above**2 * (1 - shared)
    both = (float(np.sum(np.square(each))) for each in (down, up))
    return Interval(*(centre + sign * math.sqrt(each + rest)
                      for sign, each, rest in zip((-1, 1), both, (apart_down, apart_up), strict=True)))  # fmt: skip


def proportion(hits: Array, among: Array, confidence: float) -> Estimate:
    """Share of `hits` (N,) `among` some examples (N,): a precision, or a recall."""
    total = int(among.sum())
    found = int((hits & among).sum())
    if not total:
        return Estimate(0.0, 0.0, 0.0, np.zeros(len(hits)))  # 0 out of 0 is 0 by convention, whatever is sampled
    share = found / total
    return Estimate(share, *wilson(found, total, confidence), (hits - share) * among * len(hits) / total)


def f1(labelled: Array, answered: Array, confidence: float) -> Estimate:
    """Of a class: whether each example has it (N,), and whether each was answered so (N,)."""
    hits, either = labelled & answered, labelled.astype(float) + answered
    total, found = float(either.sum()), int(hits.sum())
    if not total:
        return Estimate(0.0, 0.0, 0.0, np.zeros(len(hits)))
    value = 2 * found / total
    bounds = f1_interval(found, int(total) - found, confidence)
    return Estimate(value, *bounds, (2 * hits - value * either) * len(hits) / total)


def auroc(positive: Array, scores: Array, confidence: float) -> Estimate:
    """Area under the ROC curve of one class against the rest: whether each example has it (N,), and its score (N,).

    An example's influence is its placement among those of the other kind (DeLong, Biometrics 44, 1988, 837–845).
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    place, above, ties = _counted(positive, scores)
    beaten = above[1] + ties[1] / 2  # negatives above each score
    won = positives - above[0] - ties[0] / 2  # positives below it
    placement = np.where(positive, (negatives - beaten[place]) / negatives, (positives - won[place]) / positives)
    area = float(placement[positive].mean())
    weight = np.where(positive, len(positive) / positives, len(positive) / negatives)
    return Estimate(area, *auroc_interval(area, positives, negatives, confidence), (placement - area) * weight)


def average_precision(positive: Array, scores: Array, confidence: float) -> Estimate:
    """Of one class against the rest; arguments as for `auroc`.

    It is a mean over positives of numbers between 0 and 1, whose variance is at most that of a proportion: Wilson's
    interval (as Boyd et al. have it with the logit, ECML 2013, 451–466), and not narrower than what influences say,
    where the negatives that happened to be drawn matter more.
    """
    total, positives = len(positive), int(positive.sum())
    place, above, ties = _counted(positive, scores)
    found = above[0] + ties[0]
    asked = found + above[1] + ties[1]
    precision = found / asked
    value = float((ties[0] * precision).sum() / positives)
    # what one more example does to the precision at its own score and at all below
    lower_positives, lower_precisions = (
        np.cumsum((ties[0] * each / asked)[::-1])[::-1] for each in (np.ones(len(asked)), precision)
    )
    own = positive * (precision[place] - value)
    influence = total / positives * (own + positive * lower_positives[place] - lower_precisions[place])
    one, other = wilson_of(value, positives, confidence), interval(value, influence, confidence)
    return Estimate(value, max(0.0, min(one.low, other.low)), min(1.0, max(one.high, other.high)), influence)


def _counted(positive: Array, scores: Array) -> tuple[Array, Array, Array]:
    """Each example's place among the distinct scores, highest first (N,), and how many have a higher one and that one.

    Returns:
        The places; positives and negatives above each distinct score (2, distinct), and at it (2, distinct).
    """
    _, place = np.unique(-scores, return_inverse=True)
    at = np.stack([np.bincount(place[kind], minlength=int(place.max()) + 1) for kind in (positive, ~positive)])
    return place, np.cumsum(at, axis=1) - at, at
