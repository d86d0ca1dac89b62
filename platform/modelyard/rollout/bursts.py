"""Bets that a burst on one arm does not deceive: on capped means of time blocks instead of on requests.

The plain test takes a burst of errors on one arm, which may be a pause of its garbage collector, for as many
independent requests. Here a time block is one observation, and counts for no more than its cap, however many of its
requests fail. A block is `PER_BURST` times as long as a burst, so that few bursts reach into two. Each factor is
1 + λ·D with D ≥ −1:

- **alarm**: D = (min(c, cap) − min(s, cap)) / cap, for the shares c and s of a block. Where both arms are hit by
  chances of the same law, and the canary has no more requests than stable, its share scatters more around the same
  mean; min is concave, so E[D] ≤ 0. Where the canary has more, the mean over all its parts of stable's size stands for
  min(c, cap).
- **success**: D = (line(s) − min(c, cap)) / (cap − line(0)). Its cap lies so far above what the margin allows that a
  canary that is worse by the margin *all the time* is hardly ever cut; one whose excess is rare bursts is, and counts
  as that much.

What is assumed instead of independent requests: the differences of blocks do not depend on earlier blocks.
"""

import math
from dataclasses import replace

from modelyard.rollout.bets import bounds_of, null_of, scored
from modelyard.rollout.evidence import Trial
from modelyard.rollout.streams import Closed, Stream
from modelyard.spec.deployment import AnalysisMetric
from modelyard.statistics.evalues import Block, log_mean

PER_BURST = 3.0
"""Length of a block, in bursts."""
ALARMS = (0.15, 0.35, 0.55, 0.75, 0.95)
"""Stakes λ of the alarm."""
SUCCESSES = (0.1, 0.4, 0.9)
"""Stakes λ of success."""
SCATTER = 4.0
"""Standard deviations, and single hits, that a cap of success lies above what the margin allows."""


def worths(block: tuple[Block, Block], base: float, gap: float) -> tuple[float, ...]:
    """Logarithms of what a block is worth to the alarm, for each stake.

    Args:
        block: requests and hits of stable and of the canary.
        base: stable's share in earlier blocks.
        gap: how much larger the canary's may be.
    """
    stable, canary = block
    cap = min(1.0, base + 2 * gap)
    more = (capped(canary, stable.requests, cap) - min(stable.hits / stable.requests, cap)) / cap
    return tuple(math.log1p(stake * more) for stake in ALARMS)


def capped(canary: Block, size: int, cap: float) -> float:
    """Mean of min(share, cap) over all parts of so many requests (hypergeometric); a smaller arm is its own part."""
    requests, hits = canary.requests, int(canary.hits)  # with bursts, a request is a hit or none
    if requests <= size or hits == 0 or cap >= 1:
        return min(hits / requests, cap)
    most, limit = min(hits, size), cap * size
    least = max(0, size - (requests - hits))
    if most <= limit:
        return hits / requests
    ways = _ways(requests, size)
    missing = (
        (limit - found) * math.exp(_ways(hits, found) + _ways(requests - hits, size - found) - ways)
        for found in range(least, math.ceil(limit))
    )
    return cap - sum(missing) / size


def _ways(whole: int, part: int) -> float:
    """Logarithm of the number of ways to choose."""
    return math.lgamma(whole + 1) - math.lgamma(part + 1) - math.lgamma(whole - part + 1)


def tried(trial: Trial, stream: Stream, block: Closed, metric: AnalysisMetric, *, cap: float) -> Trial:
    """A success test after one more block; evidence above `cap` is not carried on."""
    margin = trial.margin.fraction
    at = bounds_of(stream, metric.name, margin)
    null = null_of(metric, margin, at.shift)
    stable, canary = block.split(at.stable, at.canary)
    mean = stable.hits / stable.requests
    # a limit that grows with stable's share in this very block makes large differences weigh less: that is conservative
    limit = null.line(max(stream.stable.share_over(at.stable), mean))
    highest = min(1.0, limit + SCATTER * math.sqrt(limit / canary.requests) + SCATTER / canary.requests)
    worst = max(highest - null.line(0.0), 1e-9)
    better = max(-1.0, (null.line(mean) - min(canary.hits / canary.requests, highest)) / worst)
    before = trial.logs or (0.0,) * len(SUCCESSES)
    logs = [log + math.log1p(stake * better) for log, stake in zip(before, SUCCESSES, strict=True)]
    total = log_mean(logs, (1 / len(logs),) * len(logs))
    over = max(0.0, total - cap)
    kept = tuple(round(log - over, 9) for log in logs)
    return scored(replace(trial, log_e=round(total - over, 9), logs=kept), block, at, metric)
