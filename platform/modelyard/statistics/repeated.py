"""Scores of models trained anew on overlapping parts of the same data: they are not independent.

The naive variance of k folds is too small, because any two trainings share most of their examples. Nadeau and Bengio
(Machine Learning 52, 2003, 239–281) add the ratio of test to training examples; Bouckaert and Frank (PAKDD 2004) found
that this holds for repeated cross-validation.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from modelyard.statistics.intervals import Interval, incomplete_beta, solve


def corrected_t(scores: Sequence[float], test_to_train: float, confidence: float = 0.95) -> Interval:
    """Interval for the mean score of a recipe: mean ± t · √((1/J + n_test/n_train) · s²), J − 1 degrees of freedom.

    Args:
        scores: one for each training (J,).
        test_to_train: examples held out for each that was learnt from: 1 / (folds − 1).
        confidence: two-sided.

    Returns:
        Infinite bounds for fewer than two scores.
    """
    count = len(scores)
    if count < 2:
        return Interval(-math.inf, math.inf)
    mean = sum(scores) / count
    variance = sum((score - mean) ** 2 for score in scores) / (count - 1)
    half = student_quantile((1 + confidence) / 2, count - 1) * math.sqrt((1 / count + test_to_train) * variance)
    return Interval(mean - half, mean + half)


@lru_cache(256)
def student_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t for a share above one half."""

    def rising(t: float) -> float:
        return 1 - incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2 - share

    top = 1.0
    while rising(top) < 0 and top < 1e9:
        top *= 2
    return solve(rising, 0.0, top)
