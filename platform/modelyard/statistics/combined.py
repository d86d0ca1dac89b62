"""Score intervals for what is made of several proportions: differences, means, rankings.

The idea is one: near 0 and 1 each part has a good interval of its own, and the parts' distances to their bounds add
like standard errors do ("square and add", MOVER).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from modelyard.errors import BadInput
from modelyard.statistics.intervals import Interval, quantile, solve, wilson


class Part(NamedTuple):
    """One estimate with its interval, and its weight in a sum."""

    weight: float
    value: float
    low: float
    high: float


def mover(parts: Sequence[Part]) -> Interval:
    """Interval for Σ weight·value of independent estimates.

    Zou and Donner, Statistics in Medicine 27 (2008) 1693–1702.
    """
    centre = sum(part.weight * part.value for part in parts)
    down = up = 0.0
    for weight, value, low, high in parts:
        below, above = (value - low, high - value) if weight >= 0 else (high - value, value - low)
        down += (weight * below) ** 2
        up += (weight * above) ** 2
    return Interval(centre - math.sqrt(down), centre + math.sqrt(up))


class Share(NamedTuple):
    """One proportion, and its weight in a mean."""

    weight: float
    hits: int
    total: int


def weighted(shares: Sequence[Share], confidence: float = 0.95) -> Interval:
    """Score interval for Σ weight·proportion of independent samples; of one sample it is Wilson's.

    A bound is where (estimate − θ) / s(θ) = ±z, with the variance at the most likely proportions whose sum is θ (as
    Miettinen and Nurminen have it for other contrasts, Statistics in Medicine 4, 1985, 213–226). Square and add would
    not do: a part that is 1 adds nothing upwards, and a mean over three classes of 20 examples was covered in 88 %.

    Args:
        shares: with weights and totals above 0.
        confidence: two-sided.
    """
    z = quantile(confidence)
    estimate = sum(one.weight * one.hits / one.total for one in shares)
    mirrored = [Share(one.weight, one.total - one.hits, one.total) for one in shares]
    return Interval(estimate - _reach(shares, z), estimate + _reach(mirrored, z))


def _reach(shares: Sequence[Share], z: float) -> float:
    """How far below the estimate the score test ends."""

    def rising(pull: float) -> float:
        away, variance = _pulled(shares, pull)
        return away - z * math.sqrt(variance) if away > 0 else -1.0

    top = 1.0
    while rising(top) < 0 and top < 1e15:
        top *= 2
    return _pulled(shares, solve(rising, 0.0, top))[0] if any(one.hits for one in shares) else 0.0


def _pulled(shares: Sequence[Share], pull: float) -> tuple[float, float]:
    """Estimate minus θ, and its variance, where a Lagrange multiplier pulls the proportions down to their sum θ."""
    away = variance = 0.0
    for weight, hits, total in shares:
        share, force = hits / total, pull * weight
        across = total + force
        root = math.sqrt(max(0.0, across * across - 4 * force * hits))
        lower = 2 * hits / (across + root)
        away += weight * (share - lower)
        variance += weight * weight * lower * (1 - lower) / total
    return away, variance


def newcombe(hits: int, total: int, other_hits: int, other_total: int, confidence: float = 0.95) -> Interval:
    """The first proportion minus the second, of two independent samples.

    Newcombe, Statistics in Medicine 17 (1998) 873–890, method 10.

    Raises:
        BadInput: counts or confidence are out of range.
    """
    if not total or not other_total:
        return Interval(-1.0, 1.0)
    one, other = wilson(hits, total, confidence), wilson(other_hits, other_total, confidence)
    return mover([Part(1.0, hits / total, *one), Part(-1.0, other_hits / other_total, *other)])


def f1_interval(hits: int, touched: int, confidence: float = 0.95) -> Interval:
    """Of one class's F1, by Wilson's interval for F* = hits / touched, of which F1 = 2F* / (1 + F*) is a function.

    Hand, Christen and Kirielle, Machine Learning 110 (2021) 451–456.

    Args:
        hits: examples of the class that were answered so.
        touched: examples that are of the class, or were answered so.
        confidence: two-sided.
    """
    star = wilson(hits, touched, confidence)
    return Interval(*(2 * bound / (1 + bound) for bound in star))


def auroc_interval(area: float, positives: int, negatives: int, confidence: float = 0.95) -> Interval:
    """Score-like interval for an area under the ROC curve, which has a width at 1 too.

    Newcombe, Statistics in Medicine 25 (2006) 559–573, method 5: the bounds are the θ with |θ − area| = z · s(θ), where
    s is Hanley and McNeil's standard error with both groups of their mean size.

    Raises:
        BadInput: the area is not between 0 and 1.
    """
    if not 0 <= area <= 1:
        raise BadInput(f"an area of {area} is none", do="give one from 0 to 1")
    if not positives or not negatives:
        return Interval(0.0, 1.0)
    z, pairs = quantile(confidence), positives * negatives
    equal = (positives + negatives) / 2 - 1

    def spread(theta: float) -> float:
        inner = 1 + equal * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return z * math.sqrt(max(0.0, theta * (1 - theta) * inner / pairs))

    low = solve(lambda theta: theta - area + spread(theta), 0.0, area) if area > 0 else 0.0
    high = solve(lambda theta: theta - area - spread(theta), area, 1.0) if area < 1 else 1.0
    return Interval(low, high)
