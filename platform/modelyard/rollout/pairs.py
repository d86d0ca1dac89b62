"""Metrics that come as counters of their own, a pair for each arm: what was judged, and how much of it was bad. Pure.

A request is bad or not (a count), or has a value between two bounds (a mean), which is scaled to 0 … 1: for the
E-processes both are the same (`modelyard.statistics.evalues`).
"""

import math
from collections.abc import Mapping
from dataclasses import field

from modelyard.record import record
from modelyard.rollout.streams import NOISE, Arm, Read, Stream


@record
class Pair:
    """What one arm did since somewhere in the past: both only grow."""

    total: int
    """Requests that were judged."""
    bad: float
    """Those that were bad; or the sum of their values, each scaled to 0 … 1."""


@record
class Told:
    """What a source told of one metric at one look."""

    at: float = 0.0
    """Seconds since the epoch."""
    arms: Mapping[str, Pair] = field(default_factory=dict)
    """By the arm's name: one that is missing is absent, never zero."""
    why: str = "nobody was asked yet"
    """Why an arm is absent; empty where nothing is known of it."""
    refused: bool = False
    """The source does not understand the question: people must change it."""
    away: bool = False
    """The source does not answer."""


@record
class Both:
    """What sources told of the two arms of an analysis."""

    stable: str
    """The arm's name."""
    canary: str
    metrics: Mapping[str, Told]
    """By metric."""


def heard(told: Both | None, metric: str) -> Told:
    """What was told of a metric."""
    return Told() if told is None else told.metrics.get(metric, Told())


def read(stream: Stream, told: Told, stable: str, canary: str) -> tuple[Read, Read] | str:
    """Both arms as a stream takes them; or in words why there is nothing to take.

    Bad ones that were told before the requests that they belong to are waited for: to begin anew there would leave
    out the very blocks that speak against an arm.
    """
    found = []
    for word, name, before in (("stable", stable, stream.stable), ("the canary", canary, stream.canary)):
        pair = told.arms.get(name)
        if pair is None:
            return told.why or f"nothing was counted of {word}"
        if not (math.isfinite(pair.total) and math.isfinite(pair.bad)):
            return f"{pair.bad} of {pair.total} is told of {word}"
        if not -NOISE <= pair.bad <= pair.total + NOISE:
            return f"{pair.bad:g} of {pair.total:g} requests of {word} makes no sense"
        good = max(0, pair.total - pair.bad)
        row = (int(good) if good == int(good) else round(good, 6), int(pair.total))
        if _early(before, row):
            return f"{word}: the requests that the last bad ones belong to are not told yet"
        found.append(Read((0.0,), row))
    return found[0], found[1]


def _early(before: Arm, row: tuple[float, int]) -> bool:
    return bool(before.row) and row[1] >= before.row[1] and row[0] < before.row[0] - NOISE
