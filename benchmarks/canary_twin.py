"""The canary analysis for many rollouts at once, in numpy: the arithmetic of `modelyard.rollout`, tested equal to it.

Pure Python looks at one rollout in a fraction of a millisecond; ten thousand rollouts of an hour would take it hours.
"""

import math
from dataclasses import dataclass

import numpy as np

from modelyard.rollout import bets, streams
from modelyard.rollout.analysis import _CARRIED
from modelyard.rollout.evidence import SURGE
from modelyard.statistics.evalues import _EDGE, _HALVINGS

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


def log_e(
    ns: Array, ks: Array, nc: Array, kc: Array, base: Array, bet: Array, *, above: bool, slope=1.0, shift=0.0
) -> Array:
    """`evalues.log_e` over arrays."""
    a, b = np.clip(base, _EDGE, 1 - _EDGE), np.clip(bet, _EDGE, 1 - _EDGE)
    total = ns + nc
    if slope == 1 and shift == 0:
        x = y = (ns * a + nc * b) / total
    else:
        there = (b - shift) / slope
        low = np.maximum(np.minimum(there, a), _EDGE * 1e-3)
        high = np.minimum(np.maximum(there, a), (1 - shift) / slope - _EDGE * 1e-3)
        for _ in range(_HALVINGS):
            x = (low + high) / 2
            y = slope * x + shift
            pull = ns * (a - x) / (x * (1 - x)) + slope * nc * (b - y) / (y * (1 - y))
            low, high = np.where(pull > 0, x, low), np.where(pull > 0, high, x)
        x = (low + high) / 2
        y = slope * x + shift
    end = (1 - shift) / slope
    corners = [(0, shift), (0, 1), (end, 1)] if above else [(0, shift), (end, 1), (1, 1), (1, 0), (0, 0)]
    bound = np.ones_like(x)
    for s, c in corners:
        f = ns * (s * a / x + (1 - s) * (1 - a) / (1 - x)) + nc * (c * b / y + (1 - c) * (1 - b) / (1 - y))
        bound = np.maximum(bound, f / total)
    ratio = ks * np.log(a / x) + (ns - ks) * np.log((1 - a) / (1 - x))
    ratio = ratio + kc * np.log(b / y) + (nc - kc) * np.log((1 - b) / (1 - y)) - total * np.log(bound)
    outside = b < slope * a + shift if above else b > slope * a + shift
    return np.where(outside, ratio, 0.0)


class Twin:
    """M analyses of one metric. Rows are cumulative over bounds, the last entry counts all: (M, bounds + 1)."""

    def __init__(self, rollouts: int, metric: Metric, *, history: Array, warmup: int = 10, miss_rate: float = 0.05):
        self.metric = metric
        shape = (rollouts, len(metric.bounds) + 1)
        self.past_s, self.past_c = _learn(np.zeros(shape), history, streams.HISTORY), np.zeros(shape)
        self.open_s, self.open_c = np.zeros(shape), np.zeros(shape)
        self.warmup = np.full(rollouts, warmup)
        self.counted_s, self.counted_c = np.zeros(rollouts), np.zeros(rollouts)
        self.blocks = np.zeros(rollouts)
        self.logs = np.full((rollouts, bets.BETS), -np.inf)
        self.alarm = np.zeros(rollouts)
        self.success = np.zeros(rollouts)
        self.excess, self.weight, self.surge = np.zeros(rollouts), np.zeros(rollouts), np.zeros(rollouts)
        self.cap = -math.log(miss_rate) + _CARRIED
        steps = np.array(metric.bounds)
        limits = np.searchsorted(steps, steps * (1 + metric.margin) * bets.SLACK, "right") - 1
        self.reach = np.maximum(np.arange(len(steps)), limits)

    @property
    def beyond(self) -> Array:
        """`evidence.Trial.beyond`."""
        return (self.excess > 0) | (self.surge >= SURGE)

    def look(self, stable: Array, canary: Array) -> None:
        """One look: what both arms did since the last one."""
        self.open_s += stable
        self.open_c += canary
        warming = self.warmup > 0
        if warming.any():
            self.warmup = np.where(warming, np.maximum(0, self.warmup - self.open_c[:, -1]), self.warmup)
            self.past_s = np.where(warming[:, None], _learn(self.past_s, self.open_s), self.past_s)
        closed = ~warming & (self.open_s[:, -1] > 0) & (self.open_c[:, -1] > 0)
        if closed.any():
            self._bet(np.flatnonzero(closed))
        done = (warming | closed)[:, None]
        self.open_s, self.open_c = np.where(done, 0, self.open_s), np.where(done, 0, self.open_c)

    def _places(self, at: Array) -> tuple[Array, Array, Array]:
        if not self.metric.tail:
            zero = np.zeros(len(at), dtype=int)
            return zero, zero, zero
        past, last = self.past_s[at], len(self.metric.bounds) - 1
        above = np.minimum(last, (past[:, :-1] <= past[:, -1:] * (1 - self.metric.tail)).sum(axis=1))
        below = np.maximum(0, above - 1)
        return above, below, self.reach[below]

    def _bet(self, at: Array) -> None:
        metric, rows = self.metric, np.arange(len(at))
        s, c, past_s, past_c = self.open_s[at], self.open_c[at], self.past_s[at], self.past_c[at]
        ns, nc = s[:, -1], c[:, -1]
        z, x, y = self._places(at)
        knows = past_s[:, -1] >= streams.MIN_PAST

        def share(place: Array) -> Array:
            return (past_s[:, -1] - past_s[rows, place] + 0.5) / (past_s[:, -1] + 1)

        # the alarm
        base = share(z)
        gap = np.maximum(base * metric.margin if metric.tail or metric.relative else metric.margin, 1e-4)
        choices = bets.choices(base, gap, log=np.log, exp=np.exp, least=np.minimum, most=np.maximum)
        ks, kc = ns - s[rows, z], nc - c[rows, z]
        blocks = self.blocks[at]
        fresh = np.where(blocks == 0, 1 - bets.RESERVE, bets.RESERVE / np.maximum(1, blocks * (blocks + 1)))
        logs = self.logs[at]
        for place, bet in enumerate(choices):
            worth = log_e(ns, ks, nc, kc, base, bet, above=False)
            logs[:, place] = np.logaddexp(logs[:, place], np.log(fresh)) + worth
        waiting = bets.RESERVE / (blocks + 1)
        top = np.maximum(logs.max(axis=1), np.log(waiting))
        total = np.exp(logs - top[:, None]).mean(axis=1) + waiting * np.exp(-top)
        self.logs[at[knows]] = logs[knows]
        self.alarm[at[knows]] = (top + np.log(total))[knows]
        self.blocks[at[knows]] += 1
        # success
        base, good = share(x), share(y)
        slope, shift = metric.line
        room = np.maximum(0, slope * base + shift - good)
        hits = past_c[:, -1] - past_c[rows, y]
        belief = np.maximum(bets.SHRINK, bets.FIRMNESS * good * (1 - good) / np.maximum(room, 1e-6) ** 2)
        guess = (hits + belief * (good + bets.HEDGE * room)) / (past_c[:, -1] + belief)
        ks, kc = ns - s[rows, x], nc - c[rows, y]
        worth = log_e(ns, ks, nc, kc, base, guess, above=True, slope=slope, shift=shift)
        weight = ns * nc / (ns + nc)
        beyond = kc / nc - (slope * ks / ns + shift)
        fade = np.minimum(1, bets.JUDGED / (self.weight[at] + weight))
        self.success[at[knows]] = np.minimum(self.success[at] + worth, self.cap)[knows]
        self.excess[at[knows]] = ((self.excess[at] + weight * beyond) * fade)[knows]
        self.weight[at[knows]] = ((self.weight[at] + weight) * fade)[knows]
        self.surge[at[knows]] = np.maximum(0, self.surge[at] + nc * beyond)[knows]
        # remember
        self.past_s[at], self.past_c[at] = _learn(past_s, s), _learn(past_c, c)
        self.counted_s[at] += ns
        self.counted_c[at] += nc


def _learn(past: Array, block: Array, memory: int = streams.MEMORY) -> Array:
    past = past + block
    while (over := past[:, -1] > memory).any():
        past = np.where(over[:, None], past // 2, past)
    return past
