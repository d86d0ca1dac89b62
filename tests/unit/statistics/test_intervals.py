"""Known answers from scipy and from the papers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from modelyard.errors import BadInput
from modelyard.statistics.intervals import at_least, at_most, clopper_pearson, tango, wilson

CASES = [(0, 10), (1, 10), (9, 10), (10, 10), (81, 263), (15, 148), (1, 29), (498, 539), (9990, 10000)]


@pytest.mark.parametrize(("successes", "total"), CASES)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_and_clopper_pearson_agree_with_scipy(successes, total, confidence):
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = stats.binomtest(successes, total).proportion_ci(confidence, method=method)
        assert ours(successes, total, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_numbers_of_newcombes_table(successes, total, low, high):
    """Newcombe, Statistics in Medicine 17 (1998) 857–872, table I, method 3."""
    assert wilson(successes, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("hits", "total", "share"), [(0, 5, 0.2), (3, 5, 0.2), (5, 5, 0.2), (40, 1000, 0.03), (7, 7, 0.9)]
)
def test_binomial_tails_agree_with_scipy(hits, total, share):
    assert at_least(hits, total, share) == pytest.approx(stats.binom.sf(hits - 1, total, share), rel=1e-10)
    assert at_most(hits, total, share) == pytest.approx(stats.binom.cdf(hits, total, share), rel=1e-10)


def _by_likelihood(gained: int, lost: int, total: int, delta: float) -> float:
    """Tango's statistic with the nuisance rate found by maximizing the restricted likelihood numerically."""
    same = total - gained - lost

    def minus(rate: float) -> float:
        up, rest = rate + delta, 1 - 2 * rate - delta
        parts = [(gained, up), (lost, rate), (same, rest)]
        return -sum(count * math.log(max(chance, 1e-300)) for count, chance in parts if count)

    rate = optimize.minimize_scalar(minus, bounds=(max(0, -delta), (1 - delta) / 2), method="bounded",
                                    options={"xatol": 1e-12}).x  # fmt: skip
    return (gained - lost - total * delta) / math.sqrt(total * (2 * rate + delta - delta * delta))


@pytest.mark.parametrize(("gained", "lost", "total"), [(12, 2, 50), (8, 11, 539), (3, 3, 100), (25, 4, 80), (1, 0, 30)])
def test_tango_inverts_the_score_test(gained, lost, total):
    low, high = tango(gained, lost, total)
    assert _by_likelihood(gained, lost, total, low) == pytest.approx(1.959964, abs=1e-4)
    assert _by_likelihood(gained, lost, total, high) == pytest.approx(-1.959964, abs=1e-4)


def test_tango_holds_on_the_boundary_where_the_bootstrap_does_not():
    """270 examples, candidate worse by exactly 0.02: "not worse by 0.02" passes with at most 2.5 % and a little."""
    total, gained, lost = 270, 0.01, 0.03
    passed = 0.0
    for g in range(20):
        for b in range(40):
            chance = stats.multinomial.pmf([g, b, total - g - b], total, [gained, lost, 1 - gained - lost])
            if chance > 1e-9 and tango(g, b, total).low >= -0.02:
                passed += chance
    assert 0.005 < passed < 0.03


@given(gained=st.integers(0, 60), lost=st.integers(0, 60), rest=st.integers(0, 500))
def test_swapping_the_models_mirrors_the_interval(gained, lost, rest):
    total = gained + lost + rest
    if not total:
        return
    low, high = tango(gained, lost, total)
    mirrored = tango(lost, gained, total)
    assert (low, high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-6)
    assert low <= (gained - lost) / total <= high


@given(gained=st.integers(0, 30), lost=st.integers(0, 30), rest=st.integers(30, 300))
def test_one_more_win_never_lowers_the_bounds(gained, lost, rest):
    total = gained + lost + rest
    before, after = tango(gained, lost, total), tango(gained + 1, lost, total)
    assert after.low >= before.low - 1e-9
    assert after.high >= before.high - 1e-9


@pytest.mark.parametrize("call", [
    lambda: wilson(-1, 10), lambda: wilson(11, 10), lambda: clopper_pearson(3, 10, 1.0), lambda: tango(6, 6, 10),
    lambda: wilson(1, 10, 0.0),
])  # fmt: skip
def test_counts_that_are_no_proportion_are_refused(call):
    with pytest.raises(BadInput):
        call()


def test_nothing_seen_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert tango(0, 0, 0) == (-1.0, 1.0)
