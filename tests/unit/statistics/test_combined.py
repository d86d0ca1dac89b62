"""Score intervals of what is made of several proportions: known answers, coverage, the ends where bootstraps stop."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelyard.errors import BadInput
from modelyard.statistics.combined import Part, Share, auroc_interval, f1_interval, mover, newcombe, weighted
from modelyard.statistics.intervals import order_ranks, wilson
from modelyard.statistics.repeated import corrected_t, student_quantile


@pytest.mark.parametrize(("counts", "low", "high"), [
    ((56, 70, 48, 80), 0.0524, 0.3339),
    ((9, 10, 3, 10), 0.1705, 0.8090),
    ((6, 7, 2, 7), 0.0582, 0.8062),
    ((5, 56, 0, 29), -0.0381, 0.1926),
    ((0, 10, 0, 20), -0.1611, 0.2775),
    ((0, 10, 0, 10), -0.2775, 0.2775),
    ((10, 10, 0, 20), 0.6791, 1.0),
])  # fmt: skip
def test_differences_of_two_samples_are_those_of_newcombes_table(counts, low, high):
    """Newcombe, Statistics in Medicine 17 (1998) 873–890, table II, method 10."""
    assert newcombe(*counts) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 40), st.integers(1, 40))
def test_swapping_two_samples_mirrors_their_difference(hits, total, other, other_total):
    hits, other = min(hits, total), min(other, other_total)
    low, high = newcombe(hits, total, other, other_total)
    mirrored = newcombe(other, other_total, hits, total)
    assert (low, high) == pytest.approx((-mirrored.high, -mirrored.low))
    assert -1 - 1e-9 <= low <= hits / total - other / other_total <= high <= 1 + 1e-9


def test_without_a_sample_a_difference_is_not_known():
    assert newcombe(0, 0, 3, 5) == (-1.0, 1.0)


def test_independent_parts_add_like_standard_errors():
    one = Part(0.5, 0.9, 0.8, 0.95)
    assert mover([one, one]) == pytest.approx((0.9 - 0.1 / math.sqrt(2), 0.9 + 0.05 / math.sqrt(2)))


@given(st.integers(0, 50), st.integers(1, 50), st.sampled_from([0.8, 0.95, 0.99]))
def test_a_weighted_mean_of_one_proportion_has_wilsons_interval(hits, total, confidence):
    hits = min(hits, total)
    assert weighted([Share(1.0, hits, total)], confidence) == pytest.approx(wilson(hits, total, confidence), abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=5))
def test_a_weighted_mean_lies_in_its_interval_and_mirrors(counts):
    shares = [Share(1 / len(counts), min(hits, total), total) for hits, total in counts]
    low, high = weighted(shares)
    value = sum(one.weight * one.hits / one.total for one in shares)
    assert -1e-9 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1 + 1e-9
    mirrored = weighted([Share(one.weight, one.total - one.hits, one.total) for one in shares])
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - high, 1 - low))


def test_equal_parts_are_as_good_as_one_sample_of_all():
    """Three classes of 20, all right: as sure as 60 of 60."""
    assert weighted([Share(1 / 3, 20, 20)] * 3) == pytest.approx(wilson(60, 60), abs=1e-6)


def test_an_f1_has_the_interval_of_the_share_that_it_is_made_of():
    low, high = f1_interval(50, 50)
    star = wilson(50, 50).low
    assert (low, high) == pytest.approx((2 * star / (1 + star), 1.0))


def test_f1_intervals_cover_what_they_say():
    """One class of 30 %, recall 0.9, a few false alarms: F* is estimated from the examples that touch the class."""
    rng, truth = np.random.default_rng(0), 2 * 0.27 / (0.3 + 0.27 + 0.05)
    draws = rng.multinomial(200, [0.27, 0.03, 0.05, 0.65], size=2000)
    covered = [f1_interval(int(a), int(a + b + c)) for a, b, c, _ in draws]
    assert 0.93 < np.mean([low <= truth <= high for low, high in covered]) < 0.97


def test_a_perfect_ranking_of_few_examples_is_not_certain():
    few, many = auroc_interval(1.0, 10, 10), auroc_interval(1.0, 500, 500)
    assert few.high == many.high == 1.0
    assert few.low < 0.9
    assert many.low > 0.98


@pytest.mark.parametrize(("area", "positives", "negatives"), [(0.9, 30, 50), (0.6, 12, 200), (1.0, 25, 25)])
def test_both_bounds_of_a_ranking_lie_where_the_score_test_ends(area, positives, negatives):
    low, high = auroc_interval(area, positives, negatives)
    for bound in {low, high} - {1.0}:
        size = (positives + negatives) / 2 - 1
        inner = 1 + size * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        spread = math.sqrt(bound * (1 - bound) * inner / (positives * negatives))
        assert abs(area - bound) / spread == pytest.approx(1.959964, abs=1e-5)


def test_a_ranking_of_one_kind_alone_says_nothing():
    assert auroc_interval(0.5, 0, 10) == (0.0, 1.0)
    with pytest.raises(BadInput, match=r"area of 1\.2"):
        auroc_interval(1.2, 3, 3)


@pytest.mark.parametrize(("total", "share"), [(100, 0.9), (100, 0.5), (37, 0.9), (1000, 0.9)])
def test_order_statistics_bound_a_quantile_of_any_distribution(total, share):
    low, high = order_ranks(total, share)
    below = stats.binom(total, share)
    assert below.cdf(low) <= 0.025 < below.cdf(low + 1)
    assert below.sf(high) <= 0.025 < below.sf(high - 1)


def test_few_values_have_no_upper_bound_of_a_high_quantile():
    assert order_ranks(10, 0.9)[1] is None


# models trained anew


@pytest.mark.parametrize("freedom", [1, 4, 9, 99])
@pytest.mark.parametrize("share", [0.9, 0.975, 0.995])
def test_quantiles_of_students_t_agree_with_scipy(freedom, share):
    assert student_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-9)


def test_the_corrected_interval_is_wider_than_that_of_independent_scores():
    scores = [0.91, 0.93, 0.9, 0.95, 0.92]
    plain = stats.t.interval(0.95, 4, np.mean(scores), stats.sem(scores))
    assert corrected_t(scores, 0.0) == pytest.approx(plain)
    low, high = corrected_t(scores, 1 / 4)
    assert high - low == pytest.approx((plain[1] - plain[0]) * math.sqrt((1 / 5 + 1 / 4) / (1 / 5)))


def test_one_training_alone_has_no_interval():
    assert corrected_t([0.9], 0.25) == (-math.inf, math.inf)
