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


class Bounds(NamedTuple):
    """Places in a stream's row: `alarm` on both arms; `stable` and `canary` for the margin."""

    alarm: int
    stable: int
    canary: int


def tail(metric: str) -> float:
    """Share of requests beyond the percentile in a metric's name: 0.1 for `latency-p90`."""
    return 1 - float(metric.removeprefix("latency-p")) / 100


def null_of(metric: AnalysisMetric, margin: float) -> Null:
    """Rates at which the canary is worse by at least the margin; latency has its margin in the bounds."""
    if metric.name != "error-rate":
        return Null(above=True)
    return Null(above=True, shift=margin) if metric.margin.type == "Absolute" else Null(above=True, slope=1 + margin)


def bounds_of(stream: Stream, metric: str, margin: float) -> Bounds:
    """Pick bounds from earlier stable traffic.

    x, for stable, is the largest bound that is not above stable's percentile; y, for the canary, the last bound not
    above (1 + margin)·x; and z, for alarms, the first bound above stable's percentile: few stable answers are slower
    than z, many of a slow canary are.
    """
    if metric == "error-rate":
        return Bounds(0, 0, 0)
    past, last = stream.stable.past, len(stream.bounds) - 1
    above = min(last, bisect_right(past, past[-1] * (1 - tail(metric)), 0, last + 1))
    below = max(0, above - 1)
    limit = stream.bounds[below] * (1 + margin) * SLACK
    return Bounds(above, below, max(below, bisect_right(stream.bounds, limit) - 1))


def worse(metric: AnalysisMetric, base: float, margin: float) -> tuple[float, ...]:
    """What the canary's share may be when it is worse than its margin."""
    relative = metric.name != "error-rate" or metric.margin.type == "Relative"
    gap = max(base * margin if relative else margin, 1e-4)
    return tuple(choices(base, gap, log=math.log, exp=math.exp, least=min, most=max))


def choices(base: Any, gap: Any, *, log: Any, exp: Any, least: Any, most: Any) -> list[Any]:
    """Shares from a little more than `gap` above `base` to nearly all, evenly in log-odds; numbers or arrays."""
    first = least(base + 1.5 * gap, (1 + base) / 2)
    low = log(first / (1 - first))
    high = most(low + 1.0, log(9.0))
    return [1 / (1 + exp(-(low + (high - low) * step / (BETS - 1)))) for step in range(BETS)]


def raised(alarm: Alarm, block: tuple[Block, Block], base: float, bets: Sequence[float]) -> Alarm:
    """An alarm after one more block.

    Each bet's process R becomes E·(R + w), where w is the share of the stake that begins only now: 0.8 at the first
    block, then 0.2/(t·(t + 1)). R, averaged over bets, plus the stake that has not begun is an E-process, for each
    share of the stake is one from its beginning on.
    """
    blocks = alarm.blocks
    fresh = math.log((1 - RESERVE) if blocks == 0 else RESERVE / (blocks * (blocks + 1)))
    logs = []
    for place, bet in enumerate(bets):
        before = log_mean((alarm.logs[place], fresh), (1.0, 1.0)) if alarm.logs else fresh
        logs.append(round(before + log_e(*block, bet=Rates(base, bet), null=AS_GOOD), 9))
    waiting = math.log(RESERVE / (blocks + 1))
    total = log_mean((*logs, waiting), (*(1 / len(bets) for _ in logs), 1.0))
    return replace(alarm, blocks=blocks + 1, logs=tuple(logs), log_e=round(total, 9))


def tried(trial: Trial, stream: Stream, block: Closed, metric: AnalysisMetric, *, cap: float) -> Trial:
    """A success test after one more block; its bet is the canary's own past, drawn to stable's.

    Evidence above `cap` is not carried on: that stays a supermartingale, and good days do not excuse later bad ones.
    """
    margin = trial.margin.fraction
    at, null = bounds_of(stream, metric.name, margin), null_of(metric, margin)
    base, good = stream.stable.share_over(at.stable), stream.stable.share_over(at.canary)
    room = max(0.0, null.line(base) - good)
    seen, hits = stream.canary.over(at.canary)
    belief = max(SHRINK, FIRMNESS * good * (1 - good) / max(room, 1e-6) ** 2)
    guess = (hits + belief * (good + HEDGE * room)) / (seen + belief)
    stable, canary = block.split(at.stable, at.canary)
    worth = log_e(stable, canary, bet=Rates(base, guess), null=null)
    # the estimate weighs blocks as Mantel and Haenszel do, so that it compares within blocks only
    weight = stable.requests * canary.requests / (stable.requests + canary.requests)
    beyond = canary.hits / canary.requests - null.line(stable.hits / stable.requests)
    fade = min(1.0, JUDGED / (trial.weight + weight))
    return replace(
        trial,
        log_e=round(min(trial.log_e + worth, cap), 9),
        excess=round((trial.excess + weight * beyond) * fade, 9),
        weight=round((trial.weight + weight) * fade, 9),
        surge=round(max(0.0, trial.surge + canary.requests * beyond), 9),
    )


def ready(stream: Stream) -> bool:
    """Whether there is enough earlier stable traffic to bet from."""
    return bool(stream.stable.past) and stream.stable.past[-1] >= streams.MIN_PAST
