"""Bounds of means of skewed values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelyard.statistics.skewed import Moments, reach


def test_without_skewness_it_is_students_t():
    expected = stats.t.ppf(0.975, 39) * math.sqrt(2.5 / 39)
    assert reach(Moments(40, 2.5, 0.0)) == pytest.approx(expected)
    assert reach(Moments(40, 2.5, 1e-9)) == pytest.approx(expected)


@given(st.integers(5, 500), st.floats(-3, 3), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_bound_lies_where_halls_statistic_is_students_quantile(total, skewness, confidence):
    skewness = max(-0.4 * math.sqrt(total), min(math.sqrt(total), skewness))
    variance = 1.7
    distance = reach(Moments(total, variance, skewness * variance**1.5), confidence)
    t, a = distance / math.sqrt(variance / (total - 1)), skewness / math.sqrt(total)
    transformed = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
    assert transformed == pytest.approx(stats.t.ppf((1 + confidence) / 2, total - 1), abs=1e-4)
    assert distance > 0


def test_a_tail_on_one_side_reaches_further_on_that_side():
    """A sample with a few low values is likelier to have missed some: its lower bound lies further away."""
    assert reach(Moments(100, 1.0, -2.0)) > reach(Moments(100, 1.0, 0.0)) > reach(Moments(100, 1.0, 2.0))


def test_more_confidence_reaches_further_and_more_examples_less_far():
    assert reach(Moments(100, 1.0, 1.0), 0.99) > reach(Moments(100, 1.0, 1.0))
    assert reach(Moments(400, 1.0, 1.0)) < reach(Moments(100, 1.0, 1.0)) / 1.8


@pytest.mark.parametrize("count", [2, 4, 6, 10, 25])
def test_a_count_of_few_rare_events_is_bounded_much_as_a_poisson_variable_is(count):
    total = 1000
    share = count / total
    variance, third = share * (1 - share), share * (1 - share) * (1 - 2 * share)
    high = total * (share + reach(Moments(total, variance, -third)))
    exact = stats.chi2.ppf(0.975, 2 * count + 2) / 2
    assert high == pytest.approx(exact, rel=0.12)


def test_one_value_says_nothing_and_equal_ones_are_certain():
    assert reach(Moments(1, 0.0, 0.0)) == math.inf
    assert reach(Moments(50, 0.0, 0.0)) == 0.0


def test_it_holds_where_students_t_does_not():
    """Means of 40 lognormal values, the lower bound of their negative: t is passed in some 9 %."""
    rng = np.random.default_rng(4)
    drawn = -rng.lognormal(size=(4000, 40))
    truth, plain, ours = -math.exp(0.5), 0, 0
    for values in drawn:
        away = values - values.mean()
        moments = Moments(40, float(np.mean(away**2)), float(np.mean(away**3)))
        ours += values.mean() - reach(moments) >= truth
        plain += values.mean() - reach(moments._replace(third=0.0)) >= truth
    assert plain / 4000 > 0.08
    assert ours / 4000 < 0.055
