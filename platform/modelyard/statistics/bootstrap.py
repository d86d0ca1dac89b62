"""Bootstrap intervals over weights: a resample is a row of counts, never a copied data set.

A metric is a function of weights (R, C), how often each of C cells was drawn in each of R resamples, and gives R
values at once. Cells are sufficient counts where these exist (a confusion matrix has few), else single examples. Two
models on the same examples share the weights, which makes the comparison paired.

BCa (Efron 1987) corrects the percentile interval for bias and skew; the acceleration comes from a jackknife.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.statistics.intervals import Interval

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
Measure = Callable[[Any], Floats]
"""Weights (R, C) → R values."""

RESAMPLES = 2000
_GROUPS = 200
_AT_ONCE = 4_000_000


def weights(counts: Ints, resamples: int, rng: np.random.Generator) -> Ints:
    """Resampled counts (R, C) of cells with these counts (C,): each row sums to the number of examples."""
    total, cells = int(counts.sum()), len(counts)
    if cells <= total // 4 or cells < 64:
        return rng.multinomial(total, counts / total, size=resamples).astype(np.int32)
    # many cells: counting drawn indices is quicker than a chain of binomials
    edges = np.repeat(np.arange(cells), counts)
    drawn = edges[rng.integers(0, total, size=(resamples, total), dtype=np.int32)]
    drawn = drawn + np.arange(resamples, dtype=np.int64)[:, None] * cells
    return np.bincount(drawn.ravel(), minlength=resamples * cells).reshape(resamples, cells).astype(np.int32)


def replicates(measure: Measure, counts: Ints, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """The metric's value in each resample (R,). The same counts and seed give the same resamples."""
    rng = np.random.default_rng(seed)
    step = max(1, min(resamples, _AT_ONCE // max(1, len(counts))))
    parts = [
        measure(weights(counts, min(step, resamples - start), rng)) for start in range(0, resamples, step)
    ]  # fmt: skip
    return np.concatenate(parts)


def bca(
    measure: Measure, counts: Ints, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """BCa interval of a metric.

    Args:
        measure: weights (R, C) → R values.
        counts: how often each cell occurs (C,).
        confidence: two-sided.
        resamples: how many.
        seed: of the resampling.
    """
    point = float(measure(counts[None, :])[0])
    values = replicates(measure, counts, resamples=resamples, seed=seed)
    return bca_of(point, values, acceleration(measure, counts), confidence=confidence)


def acceleration(measure: Measure, counts: Ints, *, seed: int = 0) -> float:
    """BCa's acceleration, from a jackknife: of few cells one example less, of many one random group less."""
    cells = len(counts)
    if cells <= _GROUPS:
        there = counts > 0
        left_out = measure((counts[None, :] - np.eye(cells, dtype=counts.dtype))[there])
        times = counts[there].astype(float)  # leaving out any example of a cell gives the same value
    else:
        group = np.random.default_rng(seed).permutation(np.arange(cells) % _GROUPS)
        left_out = measure(np.where(group[None, :] == np.arange(_GROUPS)[:, None], 0, counts[None, :]))
        times = np.ones(_GROUPS)
    spread = np.average(left_out, weights=times) - left_out
    squares = float(np.sum(times * spread**2))
    cubes = float(np.sum(times * spread**3))
    return cubes / (6 * squares**1.5) if squares > 0 and np.isfinite(cubes) else 0.0


def bca_of(point: float, values: Floats, skew: float = 0.0, *, confidence: float = 0.95) -> Interval:
    """BCa bounds from replicates and the acceleration (0: corrected for bias only); no spread gives one point."""
    values = values[np.isfinite(values)]
    if not len(values) or not np.isfinite(point):
        return Interval(-np.inf, np.inf)
    if np.ptp(values) == 0:
        return Interval(min(point, float(values[0])), max(point, float(values[0])))
    normal = NormalDist()
    below = (np.sum(values < point) + 0.5 * np.sum(values == point)) / len(values)
    edge = 0.5 / len(values)
    bias = normal.inv_cdf(min(max(float(below), edge), 1 - edge))
    bounds = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + normal.inv_cdf(tail)
        bounds.append(float(np.quantile(values, normal.cdf(bias + z / (1 - skew * z)))))
    return Interval(bounds[0], bounds[1])
