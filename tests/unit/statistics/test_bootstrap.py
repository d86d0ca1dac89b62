"""The bootstrap over weights: known answers, speed, pairing."""

import time

import numpy as np
import pytest
from scipy import stats

from modelyard.statistics.bootstrap import acceleration, bca, bca_of, replicates, weights


def _mean(values):
    return lambda w: (w @ values) / w.sum(axis=1)


def test_bca_agrees_with_scipy_on_skewed_data():
    values = np.random.default_rng(5).lognormal(size=120)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    ours = bca(_mean(values), np.ones(120, int), resamples=20_000)
    assert ours == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_equal_examples_may_be_one_cell():
    values, counts = np.array([0.0, 1.0, 5.0]), np.array([60, 30, 10])
    spread = np.repeat(values, counts)
    assert acceleration(_mean(values), counts) == pytest.approx(
        acceleration(_mean(spread), np.ones(100, int)), rel=1e-6
    )  # fmt: skip
    few, many = bca(_mean(values), counts, resamples=20_000), bca(_mean(spread), np.ones(100, int), resamples=20_000)
    assert few == pytest.approx(many, rel=0.03)


@pytest.mark.parametrize("counts", [np.array([3, 0, 7]), np.ones(500, int)])
def test_every_resample_has_as_many_examples(counts):
    drawn = weights(counts, 50, np.random.default_rng(0))
    assert drawn.shape == (50, len(counts))
    assert (drawn.sum(axis=1) == counts.sum()).all()
    assert (drawn[:, counts == 0] == 0).all()


def test_two_metrics_on_the_same_counts_share_their_resamples():
    values, counts = np.arange(40.0), np.ones(40, int)
    one, other = replicates(_mean(values), counts), replicates(_mean(values + 3), counts)
    assert np.allclose(other - one, 3)


def test_ten_thousand_examples_of_a_confusion_matrix_take_less_than_a_tenth_of_a_second():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(10_000, rng.dirichlet(np.ones(100)))

    def macro_f1(w):
        matrix = w.reshape(len(w), 10, 10)
        hit = np.einsum("rcc->rc", matrix)
        return (2 * hit / np.maximum(1, matrix.sum(1) + matrix.sum(2))).mean(1)

    took = []
    for _ in range(5):
        began = time.process_time()
        bca(macro_f1, counts, resamples=2000)
        took.append(time.process_time() - began)
    assert min(took) < 0.1


def test_what_never_varies_is_one_point():
    assert bca(_mean(np.ones(20)), np.ones(20, int)) == (1.0, 1.0)


def test_values_that_are_not_defined_give_no_interval():
    low, high = bca_of(float("nan"), np.array([np.nan, np.nan]))
    assert low == -np.inf
    assert high == np.inf
