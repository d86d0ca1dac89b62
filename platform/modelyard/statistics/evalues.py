"""E-values for two arms, so that a rollout may be looked at as often as one likes.

An *E-variable* for a null hypothesis is a number ≥ 0, computed from a block of data, whose expectation is at most 1
under every distribution of the null. The product over blocks, each block's bet fixed before the block is seen, is a
test supermartingale: the chance that it ever reaches 1/α is at most α, however often and whenever one looks (Ville).

**The block's E-variable** (Turner, Ly, Grünwald, arXiv 2106.02693 and 2203.09785). A block has n_s requests of stable
with k_s hits and n_c of canary with k_c hits; each request is a hit with chance θ_s or θ_c. The null is a convex set
Θ0 of points (θ_s, θ_c): *canary not above the line* `θ_c ≤ slope·θ_s + shift`, or *canary not below it*. The bet is
one point θ* outside of Θ0, and θ° is a point of Θ0, meant to be the closest to θ* in
`KL(θ) = n_s·kl(θ*_s, θ_s) + n_c·kl(θ*_c, θ_c)`. Then, with n = n_s + n_c,

    E = p_θ*(block) / p_θ°(block) / B^n,   B = max(1, max of L over the corners of Θ0)
    L(θ) = (n_s·f_s(θ_s) + n_c·f_c(θ_c)) / n
    f_s(θ_s) = θ_s·θ*_s/θ°_s + (1 − θ_s)·(1 − θ*_s)/(1 − θ°_s),  f_c alike

*Proof that E[E] ≤ 1 under every θ in Θ0.* Requests are independent, so E_θ[p_θ*/p_θ°] = f_s(θ_s)^n_s · f_c(θ_c)^n_c,
which is at most L(θ)^n, for a geometric mean is at most the arithmetic mean. L is linear in θ and Θ0 is a polygon, so
L is largest at a corner: L(θ)^n ≤ B^n. ∎ This holds for *any* θ°, also one that a solver found roughly. When θ° is
the closest point, L(θ) − 1 is minus the directional derivative of KL at θ° towards θ (over n), which is ≤ 0 all over
a convex Θ0: so B = 1 and nothing is lost.

**Values instead of hits.** A request with a value x in [0, 1], of mean θ, enters with a^x·b^(1−x), where it would enter
with a if it were a hit and with b if not. That is at most x·a + (1 − x)·b, for a geometric mean is at most the
arithmetic mean, so its expectation is at most θ·a + (1 − θ)·b = f(θ): the proof above holds word for word, with
the sum of the values for the hits (the step by which Hoeffding, 1963, Theorem 1, goes from the binomial to bounded
variables). It is conservative: the less the values scatter, the more. Betting on each single value (Waudby-Smith and
Ramdas, arXiv 2010.09686) would profit from that; counters tell sums alone.

Nothing here depends on how the arms share the traffic: n_s and n_c are given, and may differ from block to block.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_EDGE = 1e-6
_HALVINGS = 40


class Block(NamedTuple):
    """What one arm did between two looks: `requests` of which `hits` were hits (errors, or slow answers).

    Where each request has a value from 0 to 1 instead of being a hit or none, `hits` is the sum of the values.
    """

    requests: int
    hits: float


class Rates(NamedTuple):
    """A point (θ_s, θ_c): the chance of a hit on each arm."""

    stable: float
    canary: float


class Null(NamedTuple):
    """A half-plane of rates, cut to the unit square.

    `above` False: the canary is not above the line `slope·stable + shift` (as good). True: not below it (worse).
    """

    above: bool
    slope: float = 1.0
    shift: float = 0.0

    def line(self, stable: float) -> float:
        """The canary's rate on the line."""
        return self.slope * stable + self.shift

    def holds(self, rates: Rates) -> bool:
        """Whether a point belongs to the null."""
        line = self.line(rates.stable)
        return rates.canary >= line if self.above else rates.canary <= line


AS_GOOD = Null(above=False)
"""The canary has no more hits than stable."""


@lru_cache(256)
def corners(null: Null) -> tuple[Rates, ...]:
    """Corners of a null's polygon, for lines with `slope ≥ 1` and `0 ≤ shift < 1`."""
    start, end = Rates(0.0, null.shift), Rates((1 - null.shift) / null.slope, 1.0)
    if null.above:
        return start, Rates(0.0, 1.0), end
    return start, end, Rates(1.0, 1.0), Rates(1.0, 0.0), Rates(0.0, 0.0)


def closest(bet: Rates, null: Null, stable: int, canary: int) -> Rates:
    """The point on the null's line with the smallest KL from the bet, for these numbers of requests on each arm."""
    if null.slope == 1.0 and null.shift == 0.0:
        both = (stable * bet.stable + canary * bet.canary) / (stable + canary)
        return Rates(both, both)
    there = (bet.canary - null.shift) / null.slope  # stable's rate at which the canary's part alone would be content
    low, high = min(there, bet.stable), max(there, bet.stable)
    low = max(low, _EDGE * 1e-3)
    high = min(high, (1 - null.shift) / null.slope - _EDGE * 1e-3)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        line = null.line(middle)
        # the slope of KL along the line; KL is convex, so the slope changes its sign once
        pull = stable * (bet.stable - middle) / (middle * (1 - middle))
        pull += null.slope * canary * (bet.canary - line) / (line * (1 - line))
        if pull > 0:
            low = middle
        else:
            high = middle
    middle = (low + high) / 2
    return Rates(middle, null.line(middle))


def log_e(stable: Block, canary: Block, *, bet: Rates, null: Null) -> float:
    """Natural logarithm of the block's E-variable; 0 (no bet) when an arm is empty or the bet lies in the null."""
    if stable.requests <= 0 or canary.requests <= 0:
        return 0.0
    bet = Rates(_inside(bet.stable), _inside(bet.canary))
    if null.holds(bet):
        return 0.0
    near = closest(bet, null, stable.requests, canary.requests)
    if not (0 < near.stable < 1 and 0 < near.canary < 1):
        return 0.0
    total = stable.requests + canary.requests
    bound = max(
        (stable.requests * _factor(corner.stable, bet.stable, near.stable)
         + canary.requests * _factor(corner.canary, bet.canary, near.canary)) / total
        for corner in corners(null)
    )  # fmt: skip
    ratio = _log_ratio(stable, bet.stable, near.stable) + _log_ratio(canary, bet.canary, near.canary)
    return ratio - total * math.log(max(1.0, bound))


def log_mean(logs: Sequence[float], weights: Sequence[float]) -> float:
    """Logarithm of the weighted sum of what `logs` are logarithms of: an average of E-processes is one."""
    top = max(logs)
    if top == -math.inf:
        return top
    return top + math.log(sum(weight * math.exp(log - top) for log, weight in zip(logs, weights, strict=True)))


def _inside(rate: float) -> float:
    return min(max(rate, _EDGE), 1 - _EDGE)


def _factor(rate: float, bet: float, near: float) -> float:
    """Expectation of one request's likelihood ratio when hits come at `rate`."""
    return rate * bet / near + (1 - rate) * (1 - bet) / (1 - near)


def _log_ratio(block: Block, bet: float, near: float) -> float:
    return block.hits * math.log(bet / near) + (block.requests - block.hits) * math.log((1 - bet) / (1 - near))
