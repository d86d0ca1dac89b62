"""Whether the arms' counters agree with the weights that a gateway says it has. Pure.

The Gateway API promises nothing about when a change has reached the data plane: `Accepted` says that a configuration
was taken. So weights are believed once requests go where they should: arms at 0 stand still, and the others get a share
that this weight explains better than the one before. Without traffic there is nothing to see, and nothing to lose:
then the gateway's word is taken after `PATIENCE_S`.
"""

import math
from collections.abc import Mapping
from dataclasses import field, replace

from modelyard.record import record

STILL_S = 1.0
"""How long an arm at 0 must have answered nothing."""
PATIENCE_S = 10.0
ENOUGH = 20
"""Requests that show a share."""
SIGMAS = 3.0


@record
class Trial:
    """What was seen since the gateway accepted these weights."""

    weights: Mapping[str, int]
    since: float
    """When the gateway's word was first seen, seconds of any one clock."""
    window: float
    """Since when the counts below are compared."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Requests by arm at the beginning of the window."""
    last: Mapping[str, int] = field(default_factory=dict)
    moved: Mapping[str, float] = field(default_factory=dict)
    """When each arm's count last moved."""


def begun(weights: Mapping[str, int], counts: Mapping[str, int], now: float) -> Trial:
    """The trial of weights that were just accepted."""
    moved = dict.fromkeys(weights, now)
    return Trial(weights=weights, since=now, window=now, counts=counts, last=counts, moved=moved)


def weighed(trial: Trial, counts: Mapping[str, int], now: float) -> tuple[Trial, bool]:
    """Take new counts; gives the trial as it goes on, and whether the weights are believed."""
    moved = {
        arm: now if arm in counts and counts[arm] != trial.last.get(arm) else trial.moved.get(arm, now)
        for arm in trial.weights
    }
    trial = replace(trial, last={**trial.last, **counts}, moved=moved)
    idle = [arm for arm, weight in trial.weights.items() if weight == 0]
    if any(now - moved[arm] < STILL_S for arm in idle):
        return trial, False
    live = [arm for arm, weight in trial.weights.items() if weight]
    if any(arm in counts and arm not in trial.counts for arm in live):
        return replace(trial, window=now, counts=dict(trial.last)), False  # its first word: compare from here on
    seen = {arm: counts[arm] - trial.counts[arm] for arm in live if arm in counts and arm in trial.counts}
    total = sum(seen.values())
    if len(live) < 2 or total < ENOUGH or len(seen) < len(live):
        waited = now - trial.since
        sure = len(live) < 2 and (not idle or total > 0)
        return trial, sure or waited >= PATIENCE_S
    if all(explained(seen[arm], total, trial.weights[arm]) for arm in live):
        return trial, True
    return replace(trial, window=now, counts=dict(trial.last)), False


def explained(seen: int, total: int, weight: int) -> bool:
    """Whether a share may come from a weight: within a factor of two, and chance.

    Retries count as attempts of their arm, so that a failing arm has more than its share.

    >>> explained(50, 1000, 5), explained(500, 1000, 5), explained(3, 20, 5)
    (True, False, True)
    """
    expected, spread = total * weight / 100, SIGMAS * math.sqrt(total * weight * (100 - weight)) / 100
    return expected / 2 - spread <= seen <= expected * 2 + spread
