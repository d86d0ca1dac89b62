"""E[e] ≤ 1 under every rate of the null, by exact enumeration; and what a bet must never do."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.statistics.evalues import AS_GOOD, Block, Null, Rates, closest, corners, log_e, log_mean

NULLS = {
    "as good": AS_GOOD,
    "worse by 5 points": Null(above=True, shift=0.05),
    "worse by 30 points": Null(above=True, shift=0.3),
    "worse by half": Null(above=True, slope=1.5),
    "at least as many slow answers": Null(above=True),
}
SHARES = ((1, 1), (19, 1), (1, 6), (3, 2), (10, 4))
RATES = (0.0, 0.02, 0.3, 0.7, 1.0)
BETS = (0.001, 0.02, 0.3, 0.6, 0.97)


def _chance(block: Block, rate: float) -> float:
    return math.comb(block.requests, block.hits) * rate**block.hits * (1 - rate) ** (block.requests - block.hits)


def _table(shares: tuple[int, int], bet: Rates, null: Null) -> dict[tuple[Block, Block], float]:
    """The E-variable of every block that can be."""
    blocks = [
        (Block(shares[0], k_s), Block(shares[1], k_c))
        for k_s, k_c in itertools.product(range(shares[0] + 1), range(shares[1] + 1))
    ]
    return {(one, other): math.exp(log_e(one, other, bet=bet, null=null)) for one, other in blocks}


def _expectation(table: dict[tuple[Block, Block], float], truth: Rates) -> float:
    return sum(
        _chance(stable, truth.stable) * _chance(canary, truth.canary) * e for (stable, canary), e in table.items()
    )


def _edge(null: Null) -> list[Rates]:
    """Points of the null: a grid, its corners, and its line, where it is closest to the bets."""
    grid = [Rates(s, c) for s, c in itertools.product(RATES, RATES)]
    line = [Rates(s, min(1.0, null.line(s))) for s in (0, 0.001, 0.01, 0.1, 0.3, 0.6)]
    return [point for point in (*grid, *line, *corners(null)) if null.holds(point)]


@pytest.mark.parametrize("name", NULLS)
def test_the_expectation_under_the_null_is_at_most_one(name):
    null = NULLS[name]
    points = _edge(null)
    for shares, base, more in itertools.product(SHARES, BETS, BETS):
        bet = Rates(base, more)
        table = _table(shares, bet, null)
        worst = max(_expectation(table, truth) for truth in points)
        assert worst <= 1 + 1e-9, (shares, bet)


@pytest.mark.parametrize("name", NULLS)
def test_a_bet_that_is_right_wins(name):
    null = NULLS[name]
    bet = Rates(0.1, 0.8) if not null.above else Rates(0.6, 0.1)
    worth = sum(
        _chance(Block(8, k_s), bet.stable) * _chance(Block(8, k_c), bet.canary)
        * log_e(Block(8, k_s), Block(8, k_c), bet=bet, null=null)
        for k_s, k_c in itertools.product(range(9), range(9))
    )  # fmt: skip
    assert worth > 0.1


def test_a_bet_inside_the_null_bets_nothing():
    assert log_e(Block(10, 3), Block(10, 9), bet=Rates(0.5, 0.4), null=AS_GOOD) == 0.0
    assert log_e(Block(10, 3), Block(10, 0), bet=Rates(0.1, 0.5), null=Null(above=True, shift=0.05)) == 0.0


def test_an_arm_without_requests_bets_nothing():
    assert log_e(Block(0, 0), Block(10, 10), bet=Rates(0.1, 0.5), null=AS_GOOD) == 0.0
    assert log_e(Block(10, 0), Block(0, 0), bet=Rates(0.1, 0.5), null=AS_GOOD) == 0.0


def test_the_closest_point_is_the_closest():
    null, bet = Null(above=True, shift=0.1), Rates(0.05, 0.06)

    def far(x: float) -> float:
        def kl(p: float, q: float) -> float:
            return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

        return 19 * kl(bet.stable, x) + 3 * kl(bet.canary, x + 0.1)

    found = closest(bet, null, 19, 3).stable
    assert far(found) <= min(far(found * factor) for factor in (0.9, 0.99, 1.01, 1.1)) + 1e-12


def test_the_log_of_a_mean_survives_large_numbers():
    assert log_mean([1000.0, 1000.0], [0.5, 0.5]) == pytest.approx(1000.0)
    assert log_mean([-math.inf, -math.inf], [0.5, 0.5]) == -math.inf


@given(requests=st.integers(1, 200), hits=st.integers(0, 200), base=st.floats(0.001, 0.5), more=st.floats(0.01, 0.45))
def test_more_canary_hits_are_more_evidence_of_worse(requests, hits, base, more):
    hits = min(hits, requests - 1)
    bet = Rates(base, base + more)
    less, worse = (log_e(Block(300, 5), Block(requests, k), bet=bet, null=AS_GOOD) for k in (hits, hits + 1))
    assert worse > less


@given(n=st.integers(1, 100), k=st.integers(0, 100), m=st.integers(1, 100), j=st.integers(0, 100))
def test_swapping_the_arms_swaps_the_evidence(n, k, m, j):
    """Against "equal or better" seen from either side: the same block, the same bet, the same number."""
    one, other = Block(n, min(k, n)), Block(m, min(j, m))
    left = log_e(one, other, bet=Rates(0.1, 0.3), null=AS_GOOD)
    right = log_e(other, one, bet=Rates(0.3, 0.1), null=Null(above=True))
    assert left == pytest.approx(right, abs=1e-9)


@given(margin=st.floats(0.005, 0.4), more=st.floats(0.01, 0.3), requests=st.integers(1, 500))
def test_a_wider_margin_is_easier_to_show(margin, more, requests):
    """By a canary without errors."""
    blocks = Block(400, 4), Block(requests, 0)
    bet = Rates(0.01, 0.01)
    near = log_e(*blocks, bet=bet, null=Null(above=True, shift=margin))
    far = log_e(*blocks, bet=bet, null=Null(above=True, shift=margin + more))
    assert far >= near - 1e-9
