"""Intervals from values that a metric took in resamples: for metrics that only a function of the user's can compute.

All others have better ones (`modelyard.evaluation.scores`, `modelyard.evaluation.influence`): on some hundred skewed
examples a bound of the bootstrap at 2.5 % is passed in 4–5 % (`benchmarks/gates.py`), whichever way it is made from
the resamples. So the bounds here are those of half the tails, and keep the promise.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.statistics.intervals import Interval

Floats = npt.NDArray[np.floating[Any]]
TAILS = 0.5
"""Of the tails that a confidence leaves, the part that is used."""


def bounds(point: float, values: Floats, *, confidence: float = 0.95) -> Interval:
    """Percentiles of the resamples' values (R,), corrected for bias (Efron 1987); no spread gives one point.

    Args:
        point: the metric's value.
        values: in resamples; what is not finite is left out.
        confidence: two-sided.
    """
    values = values[np.isfinite(values)]
    if not len(values) or not np.isfinite(point):
        return Interval(-np.inf, np.inf)
    normal, edge = NormalDist(), 0.5 / len(values)
    below = float((np.sum(values < point) + 0.5 * np.sum(values == point)) / len(values))
    bias = normal.inv_cdf(min(max(below, edge), 1 - edge))
    tail = TAILS * (1 - confidence) / 2
    low, high = (np.quantile(values, normal.cdf(2 * bias + normal.inv_cdf(share))) for share in (tail, 1 - tail))
    return Interval(min(point, float(low)), max(point, float(high)))
