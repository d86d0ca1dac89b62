"""Counters of two arms, read over time, turned into blocks in which both arms were watched together.

Why blocks: when weights and base rates move together, totals pooled over time abort an identical version
(Simpson's paradox). A block compares both arms over the same stretch of time; shares may change from block to block.

Every metric is an *exceedance*: the share of requests that are worse than a bound. So one kind of stream serves all: a
row of cumulative counts over bounds, the last one counting all. Error rate is the row `(attempts - errors, attempts)`.
"""

import math
from collections.abc import Mapping
from dataclasses import field, replace
from itertools import accumulate
from operator import add, sub
from typing import NamedTuple, Protocol

from modelyard.record import record
from modelyard.statistics.evalues import Block

MEMORY = 20_000
"""Requests of an arm that bets are made from, at most: old ones fade, so that bets follow a drifting base rate."""
HISTORY = 2000
"""What all traffic before the canary counts for: it may be weeks old."""
MIN_PAST = 50
"""Earlier stable requests without which nothing is bet: the first traffic only teaches."""
BLOCK_SECONDS = 300.0
"""An open block in which one arm had no traffic for so long is dropped: it is no fair comparison any more."""


class Reading(Protocol):
    """What is read of one arm's counters: `modelyard.rollout.observation.Counts` has this shape."""

    @property
    def at(self) -> float:
        """Seconds since the epoch."""

    @property
    def requests(self) -> int:
        """Attempts that ended."""

    @property
    def errors(self) -> int:
        """Failed attempts."""

    @property
    def latency(self) -> tuple[int, ...]:
        """Answers at most as slow as each bound, cumulative over bounds; the last counts all."""

    @property
    def bounds(self) -> tuple[float, ...]:
        """Upper bounds in milliseconds, without the last (+Inf)."""

    @property
    def classes(self) -> Mapping[str, int] | None:
        """Answers by the class that they predict; None where that is not told."""


Row = tuple[int | float, ...]
"""Whole numbers; with fractions where a request has a value instead of being a hit or none (`pairs`)."""
NOISE = 1e-5
"""By so much of a request numbers with fractions may fall by rounding alone."""


class Read(NamedTuple):
    """A reading as a stream takes it."""

    bounds: tuple[float, ...]
    row: Row


@record
class Arm:
    """What a stream keeps of one arm."""

    row: Row = ()
    """Cumulative counts at the start of the open block; empty before the first reading."""
    past: Row = ()
    """Counts of earlier blocks, old ones fading: what bets are made from."""
    counted: int = 0
    """Requests that entered a comparison."""

    def over(self, index: int) -> tuple[int, float]:
        """Earlier requests, and those beyond bound `index`."""
        return (int(self.past[-1]), self.past[-1] - self.past[index]) if self.past else (0, 0)

    def share_over(self, index: int) -> float:
        """Share of earlier requests beyond bound `index`, kept off 0 and 1."""
        seen, hits = self.over(index)
        return (hits + 0.5) / (seen + 1)

    def learn(self, block: Row, memory: int = MEMORY) -> "Arm":
        """A copy that remembers a block too; where that is more than `memory`, all of it counts half from now on."""
        past = tuple(map(add, self.past, block)) if self.past else block
        while past[-1] > memory:
            past = tuple(count // 2 for count in past)
        return replace(self, past=past)


@record
class Stream:
    """Two arms' rows, and the open block between them."""

    bounds: tuple[float, ...] = ()
    opened_at: float = 0.0
    warmup_left: int = 0
    """Requests of the new arm that are still left out."""
    block_s: float = 0.0
    """Seconds that a block lasts at least."""
    stable: Arm = field(default_factory=Arm)
    canary: Arm = field(default_factory=Arm)
    skipped: int = 0
    """Times that a block was dropped: counters began anew, or an arm stood still for too long."""

    def open_at(self, at: float, stable: Row, canary: Row, *, skipped: int = 0) -> "Stream":
        """A copy whose open block begins at these rows."""
        return replace(
            self,
            opened_at=at,
            stable=replace(self.stable, row=stable),
            canary=replace(self.canary, row=canary),
            skipped=self.skipped + skipped,
        )


class Closed(NamedTuple):
    """A finished block: what each arm did, not cumulative over time, cumulative over bounds."""

    stable: Row
    canary: Row

    def split(self, stable_index: int, canary_index: int) -> tuple[Block, Block]:
        """Both arms' requests, and those beyond a bound of its own for each arm."""
        stable, canary = self.stable, self.canary
        return (
            Block(int(stable[-1]), stable[-1] - stable[stable_index]),
            Block(int(canary[-1]), canary[-1] - canary[canary_index]),
        )


def attempts(reading: Reading) -> Read | None:
    """A reading for the error stream; None when it makes no sense."""
    values = (reading.at, reading.requests, reading.errors)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    if not 0 <= reading.errors <= reading.requests:
        return None
    return Read((0.0,), (int(reading.requests) - int(reading.errors), int(reading.requests)))


def answers(reading: Reading) -> Read | None:
    """A reading for the latency stream; None when it has no histogram, or one that makes no sense."""
    row, bounds = reading.latency, reading.bounds
    if len(row) < 2 or len(row) != len(bounds) + 1 or not math.isfinite(reading.at + sum(row)):
        return None
    if row[0] < 0 or list(row) != sorted(row):
        return None
    return Read(tuple(bounds), tuple(map(int, row)))


def advance(stream: Stream, at: float, stable: Read, canary: Read) -> tuple[Stream, Closed | None]:
    """Take one reading of both arms, with equal bounds; gives the block, once both arms have had traffic in it.

    Left out: what was there before the first reading, warm-up of the new arm, blocks across a reset, late readings, and
    blocks in which an arm stood still for `BLOCK_SECONDS`.
    """
    if not stream.canary.row or stable.bounds != stream.bounds:
        return _begun(stream, at, stable, canary), None
    rows = stable.row, canary.row
    new_stable, new_canary = _since(stream.stable.row, stable.row), _since(stream.canary.row, canary.row)
    if new_stable is None or new_canary is None:
        # what an old reading that came late says is known already
        return (stream if at <= stream.opened_at else stream.open_at(at, *rows, skipped=1)), None
    if stream.warmup_left > 0:
        left = max(0, stream.warmup_left - int(new_canary[-1]))
        return replace(stream, warmup_left=left, stable=stream.stable.learn(new_stable)).open_at(at, *rows), None
    if new_stable[-1] and new_canary[-1]:
        # a clock that stepped back begins the block's time anew
        lasted = at - stream.opened_at >= stream.block_s or not stream.block_s
        if not lasted:
            return (stream if at >= stream.opened_at else replace(stream, opened_at=at)), None
        return stream.open_at(at, *rows), Closed(new_stable, new_canary)
    stale = at - stream.opened_at > BLOCK_SECONDS
    return (stream.open_at(at, *rows, skipped=1) if stale else stream), None


def _begun(stream: Stream, at: float, stable: Read, canary: Read) -> Stream:
    """At the first reading, or where bounds have changed: stable's counts so far are its past."""
    fresh = replace(
        stream,
        bounds=stable.bounds,
        stable=Arm(counted=stream.stable.counted).learn(stable.row, HISTORY),
        canary=Arm(counted=stream.canary.counted),
    )
    return fresh.open_at(at, stable.row, canary.row, skipped=int(bool(stream.canary.row)))


def learn(stream: Stream, block: Closed) -> Stream:
    """Remember a block, after it was bet on."""
    return replace(
        stream,
        stable=replace(stream.stable.learn(block.stable), counted=stream.stable.counted + int(block.stable[-1])),
        canary=replace(stream.canary.learn(block.canary), counted=stream.canary.counted + int(block.canary[-1])),
    )


def _since(before: Row, now: Row) -> Row | None:
    """What was counted since; None when the counters began anew.

    Routers interpolate within their own buckets, so that a difference may fall by one from bound to bound: it is
    straightened.
    """
    block: Row = tuple(map(sub, now, before))
    if min(block) < -NOISE:
        return None
    if min(block) < 0:
        block = tuple(max(0, count) for count in block)
    if list(block) == sorted(block):
        return block
    return tuple(min(count, block[-1]) for count in accumulate(block, max))
