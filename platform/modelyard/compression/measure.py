"""How long a variant takes, and how that compares with the reference: numbers from rounds.

In each round every variant has its turn, one after the other, each in its own process while all others wait. What
else happens on the machine then hits all alike, and the *ratio* of two variants is honest where their times are not.
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from modelyard.compression.report import Estimate
from modelyard.record import record

Objective = Literal["latency-p50", "latency-p99", "throughput", "size"]
Times = npt.NDArray[np.float64]
"""Seconds of single calls, (rounds, calls)."""

NOISE_LEVEL = 0.99
"""Confidence of a ratio's interval: a few variants are compared at once, and the wrong one serves for weeks."""


@record
class Measured:
    """What the rounds gave for one variant."""

    p50_ms: float
    p99_ms: float
    throughput: float


def summarize(lone: Times, full: Times, batch_size: int) -> Measured:
    """Summarize a variant.

    Args:
        lone: seconds of calls with one example, (rounds, calls).
        full: seconds of calls with `batch_size` examples.
        batch_size: the serving batch size.
    """
    return Measured(
        p50_ms=float(np.quantile(lone, 0.5)) * 1e3,
        p99_ms=float(np.quantile(lone, 0.99)) * 1e3,
        throughput=batch_size / float(np.quantile(full, 0.5)),
    )


def ratio(
    objective: Objective,
    *,
    lone: Times,
    full: Times,
    size: int,
    reference_lone: Times,
    reference_full: Times,
    reference_size: int,
) -> Estimate:
    """A variant's cost over the reference's, with the interval that the noise of the rounds leaves.

    In each round the quantiles of both sides are divided, since what slows a round slows both; then the median over
    rounds counts, with its exact interval by order statistics, which assumes nothing about how times are spread.
    A size has no noise.
    """
    if objective == "size":
        value = size / reference_size
        return Estimate(value=value, low=value, high=value)
    share = 0.99 if objective == "latency-p99" else 0.5
    mine, theirs = (full, reference_full) if objective == "throughput" else (lone, reference_lone)
    rounds = min(len(mine), len(theirs))
    ratios = np.sort(np.quantile(mine[:rounds], share, axis=1) / np.quantile(theirs[:rounds], share, axis=1))
    outside = _left_out(rounds)
    low, high = (ratios[outside - 1], ratios[-outside]) if outside else (0.0, math.inf)
    return Estimate(value=float(np.median(ratios)), low=float(low), high=float(high))


def _left_out(count: int) -> int:
    """Give the k for which k-th smallest and k-th largest of `count` values enclose the median; 0: there is none.

    The k-th smallest lies above the median when fewer than k of `count` fair coins show heads.

    >>> _left_out(7), _left_out(8), _left_out(24)
    (0, 1, 6)
    """
    below, k = 1.0, 0
    while below <= 2**count * (1 - NOISE_LEVEL) / 2:
        k += 1
        below += math.comb(count, k)
    return k


def cosine(outputs: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    """Agreement of outputs (N, …) with the reference's: 1 is the same direction; NaN outputs give NaN."""
    a, b = outputs.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else 1.0


def calls_for(seconds: float, block_s: float) -> int:
    """Calls in one block, by the seconds of one: about `block_s`, at most 60, at least 3 unless they are slow."""
    return int(min(60, max(1 if seconds > block_s else 3, block_s / max(seconds, 1e-7))))
