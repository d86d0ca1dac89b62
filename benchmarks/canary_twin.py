"""The canary analysis for many rollouts at once, in numpy: the arithmetic of `modelyard.rollout`, tested equal to it.

Pure Python looks at one rollout in a fraction of a millisecond; ten thousand rollouts of an hour would take it hours.
What is faster here, and gives the same numbers: the closest point of a null is a root of a cubic, where the product
halves an interval; as it is the closest, the bound B of `evalues` is 1; E-processes are kept as numbers, not as
logarithms; and only those are kept that are asked for. Rows lie along the first axis: (bounds + 1, rollouts).
"""

import math
from dataclasses import dataclass

import numpy as np

from modelyard.rollout import bets, bursts, streams
from modelyard.rollout.analysis import _CARRIED, SPENT
from modelyard.rollout.evidence import SURGE
from modelyard.statistics.evalues import _EDGE, _HALVINGS, Block

Array = np.ndarray


@dataclass(frozen=True)
class Metric:
    """One metric at one margin: a tail share of 0 is the error rate."""

    margin: float
    tail: float = 0.0
    relative: bool = False
    bounds: tuple[float, ...] = (0.0,)

    @property
    def line(self) -> tuple[float, float]:
        """Slope and shift of the null's line."""
        if self.tail:
            return 1.0, 0.0
        return (1 + self.margin, 0.0) if self.relative else (1.0, self.margin)


def log_e(ns: Array, ks: Array, nc: Array, kc: Array, a: Array, b: Array, *, slope=1.0, shift=0.0) -> Array:
    """`evalues.log_e` over arrays, for a bet that does not lie in the null (whichever side of the line that is)."""
    a, b = np.clip(a, _EDGE, 1 - _EDGE), np.clip(b, _EDGE, 1 - _EDGE)
    x = _closest(ns, nc, a, b, shift) if slope == 1 else _halved(ns, nc, a, b, slope)
    y = slope * x + shift
    return (
        ks * np.log(a / x) + (ns - ks) * np.log((1 - a) / (1 - x))
        + kc * np.log(b / y) + (nc - kc) * np.log((1 - b) / (1 - y))
    )  # fmt: skip


def _closest(ns: Array, nc: Array, a: Array, b: Array, d: Array | float) -> Array:
    """Stable's rate at the point of θ_c = θ_s + d closest to (a, b): the middle root of the cubic.

    ns·(a − x)·y·(1 − y) + nc·(b − y)·x·(1 − x) = 0 with y = x + d is positive at x = 0 and negative at x = 1 − d.
    """
    n, off = ns + nc, b - d
    if np.ndim(d) == 0 and d == 0:
        return (ns * a + nc * b) / n
    square = -(ns * (a + 1 - 2 * d) + nc * (off + 1)) / n
    linear = (ns * (a * (1 - 2 * d) - d * (1 - d)) + nc * off) / n
    constant = ns * a * d * (1 - d) / n
    third = square / 3
    p = linear - square * third
    q = (2 * third * third - linear) * third + constant
    root = np.sqrt(np.maximum(-p / 3, 1e-300))
    turn = np.arccos(np.clip(-q / (2 * root * root * root), -1, 1)) / 3
    x = 2 * root * np.cos(turn - 2 * math.pi / 3) - third
    for _ in range(2):  # small roots lose digits to the difference above
        x = x - (((x + square) * x + linear) * x + constant) / ((3 * x + 2 * square) * x + linear)
    return np.clip(x, _EDGE * 1e-3, 1 - d - _EDGE * 1e-3)


def _halved(ns: Array, nc: Array, a: Array, b: Array, slope: float) -> Array:
    """As the product does it, for a line through 0."""
    low, high = np.maximum(np.minimum(b / slope, a), _EDGE * 1e-3), np.maximum(b / slope, a)
    high = np.minimum(high, 1 / slope - _EDGE * 1e-3)
    for _ in range(_HALVINGS):
        x = (low + high) / 2
        y = slope * x
        pull = ns * (a - x) / (x * (1 - x)) + slope * nc * (b - y) / (y * (1 - y))
        low, high = np.where(pull > 0, x, low), np.where(pull > 0, high, x)
    return (low + high) / 2


class Twin:
    """M analyses of one metric. A look's rows are cumulative over bounds, the last one counts all."""

    def __init__(
        self,
        metric: Metric,
        *,
        history: Array,
        warmup: int = 5,
        miss_rate: float = 0.05,
        alarm: bool = True,
        success: bool = True,
        block: int = 0,
    ):
        """`block`: looks to a time block of the burst-robust test."""
        self.metric, self.wants, self.block = metric, (alarm, success), block
        rollouts = history.shape[1]
        self.past_s, self.past_c = np.zeros_like(history), np.zeros_like(history)
        _learn(self.past_s, history, None, streams.HISTORY)
        self.open_s, self.open_c = np.zeros_like(history), np.zeros_like(history)
        self.warmup = np.full(rollouts, float(warmup))
        self.counted_s, self.counted_c = np.zeros(rollouts), np.zeros(rollouts)
        self.blocks, self.age = np.zeros(rollouts), np.zeros(rollouts)
        self.logs = np.zeros((len(bursts.SUCCESSES), rollouts))
        self.worth = np.zeros((bets.BETS, rollouts))
        self.alarm_e = np.ones(rollouts)
        self.success = np.zeros(rollouts)
        self.excess, self.weight, self.surge = np.zeros(rollouts), np.zeros(rollouts), np.zeros(rollouts)
        self.cap = -math.log(SPENT * miss_rate) + _CARRIED
        steps = np.array(metric.bounds)
        limits = np.searchsorted(steps, steps * (1 + metric.margin) * bets.SLACK, "right") - 1
        self.reach = np.maximum(np.arange(len(steps)), limits)

    @property
    def alarm(self) -> Array:
        """`evidence.Alarm.log_e`."""
        return np.log(self.alarm_e)

    @property
    def beyond(self) -> Array:
        """`evidence.Trial.beyond`."""
        return (self.excess > 0) | (self.surge >= SURGE)

    def keep(self, those: Array) -> None:
        """Go on with some of the rollouts only."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and name != "reach":
                setattr(self, name, value[..., those])

    def look(self, stable: Array, canary: Array) -> None:
        """One look: what both arms did since the last one."""
        self.open_s += stable
        self.open_c += canary
        self.age += 1
        warming = self.warmup > 0
        if warming.any():
            self.warmup = np.where(warming, np.maximum(0, self.warmup - self.open_c[-1]), self.warmup)
            _learn(self.past_s, self.open_s, warming)
        closed = ~warming & (self.open_s[-1] > 0) & (self.open_c[-1] > 0) & (self.age >= self.block)
        if closed.any():
            self._bet(closed)
        done = warming | closed
        self.age[done] = 0
        if done.all():
            self.open_s[:], self.open_c[:] = 0, 0
        else:
            self.open_s[:, done], self.open_c[:, done] = 0, 0

    def _bet(self, closed: Array) -> None:
        s, c = self.open_s, self.open_c
        ns, nc = np.maximum(s[-1], 1), np.maximum(c[-1], 1)  # where it is not closed, nothing below is kept
        knows = closed & (self.past_s[-1] >= streams.MIN_PAST)
        x, y, z, w, shift = self._places()
        beyond = (nc - _at(c, w)) / nc - self._allowed((ns - _at(s, z)) / ns)
        self._estimate(ns * nc / (ns + nc), nc * beyond, beyond, knows)
        if self.wants[0]:
            self._alarm(ns, ns - _at(s, z), nc, nc - _at(c, z), self._share(z), knows)
        if self.wants[1]:
            self._success((ns, ns - _at(s, x)), (nc, nc - _at(c, y)), (x, y, shift), knows)
        self.blocks += knows
        _learn(self.past_s, s, closed)
        _learn(self.past_c, c, closed)
        self.counted_s += np.where(closed, ns, 0)
        self.counted_c += np.where(closed, nc, 0)

    def _allowed(self, share: Array) -> Array:
        slope, shift = self.metric.line
        return slope * share + shift

    def _share(self, place: Array | int, least: float = 0.5) -> Array:
        total = self.past_s[-1]
        return (total - _at(self.past_s, place) + least) / (total + 2 * least)

    def _places(self) -> tuple[Array | int, Array | int, Array | int, Array | int, Array | float]:
        """`bets.bounds_of`: places of stable and canary for success, of both for the estimate, and the shift."""
        if not self.metric.tail:
            return 0, 0, 0, 0, self.metric.line[1]
        past, last, tail = self.past_s, len(self.metric.bounds) - 1, self.metric.tail
        above = np.minimum(last, (past[:-1] <= past[-1] * (1 - tail)).sum(axis=0))
        below = np.maximum(0, above - 1)
        heavy = self._share(below) > bets.HEAVY * tail
        shift = np.where(heavy, np.maximum(0.0, tail - self._share(above)), 0.0)
        return np.where(heavy, above, below), self.reach[below], above, self.reach[above], shift

    def _estimate(self, weight: Array, surge: Array, beyond: Array, knows: Array) -> None:
        fade = np.minimum(1, bets.JUDGED / (self.weight + weight))
        np.copyto(self.excess, (self.excess + weight * beyond) * fade, where=knows)
        np.copyto(self.weight, (self.weight + weight) * fade, where=knows)
        np.copyto(self.surge, np.maximum(0, self.surge + surge), where=knows)

    def _alarm(self, ns: Array, ks: Array, nc: Array, kc: Array, base: Array, knows: Array) -> None:
        metric = self.metric
        n, k = ns + nc, ks + kc
        gap = np.maximum(base * metric.margin if metric.tail or metric.relative else metric.margin, 1e-4)
        first = np.minimum(base + 1.5 * gap, (1 + base) / 2)
        odds = (1 - first) / first  # of no hit; `bets.choices` has the logarithms
        step = np.exp(-np.maximum(1.0, math.log(bets.HIGHEST / (1 - bets.HIGHEST)) + np.log(odds)) / (bets.BETS - 1))
        if self.block:
            cap = np.minimum(1.0, base + 2 * gap)
            mean_c = np.minimum(kc / nc, cap)
            for at in np.flatnonzero(knows & (nc > ns)):
                mean_c[at] = bursts.capped(Block(int(nc[at]), int(kc[at])), int(ns[at]), float(cap[at]))
            more = (mean_c - np.minimum(ks / ns, cap)) / cap
        fixed = ks * np.log(base) + (ns - ks) * np.log1p(-base)
        fresh = np.where(self.blocks == 0, 1 - bets.RESERVE, bets.RESERVE / np.maximum(1, self.blocks**2 + self.blocks))
        total = np.zeros_like(ns)
        for place in range(bets.BETS):
            if self.block:
                worth = np.log1p(bursts.ALARMS[place] * more)
            else:
                bet = 1 / (1 + odds)
                both = (ns * base + nc * bet) / n
                worth = nc * np.log(bet) + (nc - kc) * np.log(odds)
                worth += fixed - k * np.log(both) - (n - k) * np.log1p(-both)
            now = np.minimum((self.worth[place] + fresh) * np.exp(worth), 1e250)
            np.copyto(self.worth[place], now, where=knows)
            total += bets.STAKES[place] * now
            odds = odds * step
        np.copyto(self.alarm_e, total + bets.RESERVE / (self.blocks + 1), where=knows)

    def _success(self, stable: tuple, canary: tuple, at: tuple, knows: Array) -> None:
        (ns, ks), (nc, kc), (x, y, shift) = stable, canary, at
        slope = self.metric.line[0]
        base, good = self._share(x), self._share(y)
        if self.block:
            limit = slope * np.maximum(base, ks / ns) + shift
            highest = np.minimum(1.0, limit + bursts.SCATTER * np.sqrt(limit / nc) + bursts.SCATTER / nc)
            better = slope * ks / ns + shift - np.minimum(kc / nc, highest)
            better = np.maximum(-1.0, better / np.maximum(highest - shift, 1e-9))
            logs = self.logs + np.log1p(np.array(bursts.SUCCESSES)[:, None] * better)
            total = np.logaddexp.reduce(logs, axis=0) - math.log(len(logs))
            over = np.maximum(0.0, total - self.cap)
            np.copyto(self.logs, logs - over, where=knows)
            np.copyto(self.success, total - over, where=knows)
            return
        room = np.maximum(0, slope * base + shift - good)
        hits = self.past_c[-1] - _at(self.past_c, y)
        belief = np.maximum(bets.SHRINK, bets.FIRMNESS * good * (1 - good) / np.maximum(room, 1e-6) ** 2)
        guess = (hits + belief * (good + bets.HEDGE * room)) / (self.past_c[-1] + belief)
        worth = log_e(ns, ks, nc, kc, base, guess, slope=slope, shift=shift)
        worth = np.where(guess < slope * base + shift, worth, 0.0)
        np.copyto(self.success, np.minimum(self.success + worth, self.cap), where=knows)


def _at(rows: Array, place: Array | int) -> Array:
    return rows[place] if np.ndim(place) == 0 else np.take_along_axis(rows, place[None, :], axis=0)[0]


def _learn(past: Array, block: Array, those: Array | None, memory: int = streams.MEMORY) -> None:
    past += block if those is None or those.all() else np.where(those, block, 0)
    while (over := past[-1] > memory).any():
        past[:, over] //= 2
