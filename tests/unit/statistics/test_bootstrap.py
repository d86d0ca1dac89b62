"""Bounds from what a metric of the user's was in resamples."""

import numpy as np
import pytest
from scipy import stats

from modelyard.statistics.bootstrap import bounds


def test_bounds_are_percentiles_of_half_the_tails():
    values = np.linspace(0, 1, 4001)
    assert bounds(0.5, values) == pytest.approx((0.0125, 0.9875), abs=1e-3)
    assert bounds(0.5, values, confidence=0.8) == pytest.approx((0.05, 0.95), abs=1e-3)


def test_bounds_are_corrected_for_bias():
    """As Efron's bias-corrected percentiles: where most resamples lie below the point, both bounds move up."""
    values = np.linspace(0, 1, 4001)
    shift = 2 * stats.norm.ppf(0.7)
    expected = stats.norm.cdf([shift + stats.norm.ppf(0.0125), shift + stats.norm.ppf(0.9875)])
    assert bounds(0.7, values) == pytest.approx(tuple(expected), abs=1e-3)


def test_what_never_varies_is_one_point():
    assert bounds(1.0, np.ones(400)) == (1.0, 1.0)


def test_values_that_are_not_defined_give_no_interval():
    low, high = bounds(float("nan"), np.array([np.nan, np.nan]))
    assert low == -np.inf
    assert high == np.inf
