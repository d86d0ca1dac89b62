"""Bets on the next block, made from earlier blocks alone, and what a block makes of the E-processes."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from modelyard.rollout import streams
from modelyard.rollout.evidence import Alarm, Trial
from modelyard.rollout.streams import Closed, Stream
from modelyard.spec.deployment import AnalysisMetric
from modelyard.statistics.evalues import AS_GOOD, Block, Null, Rates, log_e, log_mean

SLACK = 1.001
"""Bounds are rounded to what a router prints; so much is forgiven when one is compared with a margin."""
RESERVE = 0.2
"""Share of an alarm's stake that is kept for later beginnings: a canary may turn bad after a long good time."""
SHRINK, FIRMNESS = 50.0, 8.0
"""Requests' worth of belief, in a success bet, that the canary is as good: at least the first; and so many that its own
past weighs as much as that belief once it tells apart what is 1/√FIRMNESS of the margin away."""
HEDGE = 0.02
"""How far that belief leans towards the margin, so that a single error costs less."""
JUDGED = 4000.0
"""Requests over which the canary's excess is averaged, older ones fading."""
BETS = 5
HIGHEST = 0.5
"""Bet on the canary's share, where stable's is not near it: worse canaries are found at once anyway."""
STAKES = (0.28, 0.28, 0.2, 0.14, 0.1)
"""Of the bets, from small regressions, for which every request counts, to large ones, which are found soon."""
HEAVY = 2.0
"""A bound beyond which stable has more than so many times the percentile's tail lies far below the percentile."""


class Bounds(NamedTuple):
    """Places in a stream's row."""

    alarm: int
    """On both arms, of the alarm; on stable, of the estimate."""
    beyond: int
    """On the canary, of the estimate."""
    stable: int
    """On stable, of success."""
    canary: int
    """On the canary, of success."""
    shift: float = 0.0
    """By how much the canary's share may be larger than stable's, where bounds alone do not say it."""


def tail(metric: str) -> float:
    """Share of requests beyond the percentile in a metric's name: 0.1 for `latency-p90`."""
    return 1 - float(metric.removeprefix("latency-p")) / 100


def timed(metric: str) -> bool:
    """Whether it is a latency; all others have one bound, beyond which a request is bad."""
    return metric.startswith("latency-")


def null_of(metric: AnalysisMetric, margin: float, shift: float = 0.0) -> Null:
    """Rates at which the canary is worse by at least the margin; latency has its margin in the bounds."""
    if timed(metric.name):
        return Null(above=True, shift=shift)
    return Null(above=True, shift=margin) if metric.margin.type == "Absolute" else Null(above=True, slope=1 + margin)


def bounds_of(stream: Stream, metric: str, margin: float) -> Bounds:
    """Pick bounds from earlier stable traffic.

    x is the largest bound that is not above stable's percentile, z the first above it: few stable answers are slower
    than z, many of a slow canary are. y is the last bound not above (1 + margin)·x, and success needs fewer of the
    canary's answers beyond y than of stable's beyond x. Where one bucket holds so much that x lies far below the
    percentile (answers that all take the same time are all slower than x), that would allow a canary far too much:
    there it is compared with stable's share beyond z, and may have as much more as is missing to the percentile's tail.
    """
    if not timed(metric):
        return Bounds(0, 0, 0, 0)
    past, last, share = stream.stable.past, len(stream.bounds) - 1, tail(metric)
    above = min(last, bisect_right(past, past[-1] * (1 - share), 0, last + 1))
    below = max(0, above - 1)

    def reach(place: int) -> int:
        limit = stream.bounds[place] * (1 + margin) * SLACK
        return max(place, bisect_right(stream.bounds, limit) - 1)

    if stream.stable.share_over(below) > HEAVY * share:
        shift = max(0.0, share - stream.stable.share_over(above))
        return Bounds(above, reach(above), above, reach(below), shift)
    return Bounds(above, reach(above), below, reach(below))


def gap_of(metric: AnalysisMetric, base: float, margin: float) -> float:
    """How much larger than stable's share `base` the canary's is at its margin, roughly where that is a latency's."""
    relative = timed(metric.name) or metric.margin.type == "Relative"
    return max(base * margin if relative else margin, 1e-4)


def worths(block: tuple[Block, Block], base: float, gap: float) -> tuple[float, ...]:
    """Logarithms of what a block is worth to the alarm, for each bet on the canary's share."""
    bets = choices(base, gap, log=math.log, exp=math.exp, least=min, most=max)
    return tuple(log_e(*block, bet=Rates(base, bet), null=AS_GOOD) for bet in bets)


def above(block: Block, limit: float) -> tuple[float, ...]:
    """Logarithms of what an arm's block is worth against "its share is at most `limit`", for each bet above it.

    The likelihood ratio to the limit itself: its expectation is largest there, and 1.
    """
    bets = choices(limit, max(limit / 2, 1e-4), log=math.log, exp=math.exp, least=min, most=max)
    requests, hits = block
    return tuple(hits * math.log(bet / limit) + (requests - hits) * math.log((1 - bet) / (1 - limit)) for bet in bets)


def choices(base: Any, gap: Any, *, log: Any, exp: Any, least: Any, most: Any) -> list[Any]:
    """Shares from a little more than `gap` above `base` to `HIGHEST`, evenly in log-odds; numbers or arrays."""
    first = least(base + 1.5 * gap, (1 + base) / 2)
    low = log(first / (1 - first))
    high = most(low + 1.0, log(HIGHEST / (1 - HIGHEST)))
    return [1 / (1 + exp(-(low + (high - low) * step / (BETS - 1)))) for step in range(BETS)]


def raised(alarm: Alarm, worths: Sequence[float]) -> Alarm:
    """An alarm after one more block, which is worth `worths` (logarithms of E-values) to its bets.

    Each bet's process R becomes E·(R + w), where w is the share of the stake that begins only now: 0.8 at the first
    block, then 0.2/(t·(t + 1)). R, weighed by `STAKES`, plus the stake that has not begun is an E-process, for each
    share of the stake is one from its beginning on.
    """
    blocks = alarm.blocks
    fresh = math.log((1 - RESERVE) if blocks == 0 else RESERVE / (blocks * (blocks + 1)))
    logs = []
    for place, worth in enumerate(worths):
        before = log_mean((alarm.logs[place], fresh), (1.0, 1.0)) if alarm.logs else fresh
        logs.append(round(before + worth, 9))
    waiting = math.log(RESERVE / (blocks + 1))
    total = log_mean((*logs, waiting), (*STAKES, 1.0))
    return replace(alarm, blocks=blocks + 1, logs=tuple(logs), log_e=round(total, 9))


def tried(trial: Trial, stream: Stream, block: Closed, metric: AnalysisMetric, *, cap: float) -> Trial:
    """A success test after one more block; its bet is the canary's own past, drawn to stable's.

    Evidence above `cap` is not carried on: that stays a supermartingale, and good days do not excuse later bad ones.
    """
    margin = trial.margin.fraction
    at = bounds_of(stream, metric.name, margin)
    null = null_of(metric, margin, at.shift)
    base, good = stream.stable.share_over(at.stable), stream.stable.share_over(at.canary)
    room = max(0.0, null.line(base) - good)
    seen, hits = stream.canary.over(at.canary)
    belief = max(SHRINK, FIRMNESS * good * (1 - good) / max(room, 1e-6) ** 2)
    guess = (hits + belief * (good + HEDGE * room)) / (seen + belief)
    stable, canary = block.split(at.stable, at.canary)
    worth = log_e(stable, canary, bet=Rates(base, guess), null=null)
    return scored(replace(trial, log_e=round(min(trial.log_e + worth, cap), 9)), block, at, metric)


def scored(trial: Trial, block: Closed, at: Bounds, metric: AnalysisMetric) -> Trial:
    """A copy whose estimate knows one more block.

    Blocks are weighed as Mantel and Haenszel do, so that it compares within blocks only.
    """
    stable, canary = block.split(at.alarm, at.beyond)
    weight = stable.requests * canary.requests / (stable.requests + canary.requests)
    allowed = null_of(metric, trial.margin.fraction).line(stable.hits / stable.requests)
    beyond = canary.hits / canary.requests - allowed
    fade = min(1.0, JUDGED / (trial.weight + weight))
    return replace(
        trial,
        excess=round((trial.excess + weight * beyond) * fade, 9),
        weight=round((trial.weight + weight) * fade, 9),
        surge=round(max(0.0, trial.surge + canary.requests * beyond), 9),
    )


def ready(stream: Stream) -> bool:
    """Whether there is enough earlier stable traffic to bet from."""
    return bool(stream.stable.past) and stream.stable.past[-1] >= streams.MIN_PAST
