"""Which examples meet in which update: a pure function of seed and epoch, so that any update can be found again.

An epoch's order does not depend on the number of processes: shards are shuffled, then the examples within a window of
a few shards. Memory is bounded by the window.

Updates are cut from that order in one of two ways. By process (`size`, `accumulate`): each step takes `world * size`
examples; the rest at the end of an epoch is dealt out evenly, so that averaging over processes stays exact. By the
whole (`whole`): each update takes so many examples however many processes there are, so all numbers of processes see
the same updates; each process takes its part in passes of at most `size`, and what fills no update is left out.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

WINDOW = 4
"""Shards among which examples are mixed; as many as a reader keeps open."""

T = TypeVar("T")
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One forward and backward of one process."""

    places: Places
    """Examples' places in the split."""
    weight: float
    """Of its mean loss in the update, over whose processes gradients are averaged; 0: it only keeps others company."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How an epoch's order is cut into updates."""

    world: int
    """Processes that see different examples."""
    size: int
    """Examples of a process in a pass: exactly, or with `whole` at most."""
    accumulate: int = 1
    """Passes of an update; unused with `whole`."""
    whole: int | None = None
    """Examples of an update."""

    def taken(self, total: int) -> tuple[int, ...]:
        """How many examples of the order were taken after each update of an epoch of `total` examples."""
        if self.whole:
            return tuple(range(self.whole, total + 1, self.whole))
        steps = [self.world * size for size in sizes([total], world=self.world, size=self.size)]
        return tuple(accumulate(sum(group) for group in _groups(steps, self.accumulate)))

    def updates(self, lengths: Sequence[int], *, seed: int, epoch: int, rank: int) -> Iterator[tuple[Part, ...]]:
        """What the process with this data rank does in each update of an epoch."""
        if self.whole:
            chunks = _chunks(order(lengths, seed=seed, epoch=epoch), self.whole)
            yield from (self._part(chunk, rank) for chunk in chunks)
            return
        steps = batches(lengths, seed=seed, epoch=epoch, world=self.world, size=self.size)
        for group in _groups(steps, self.accumulate):
            examples = sum(places.shape[1] for places in group)
            yield tuple(Part(places=places[rank], weight=places.shape[1] / examples) for places in group)

    def _part(self, chunk: Places, rank: int) -> tuple[Part, ...]:
        mine = np.array_split(chunk, self.world)[rank]
        passes = math.ceil(math.ceil(len(chunk) / self.world) / self.size)  # the same in every process
        return tuple(
            Part(places=part if len(part) else chunk[:1], weight=len(part) * self.world / len(chunk))
            for part in np.array_split(mine, passes)
        )


def order(lengths: Sequence[int], *, seed: int, epoch: int) -> Iterator[Places]:
    """The examples' places in the split, window by window, in the order of this epoch."""
    rng = np.random.default_rng((seed, epoch))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shards = rng.permutation(len(lengths))
    for first in range(0, len(shards), WINDOW):
        window = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in shards[first : first + WINDOW]])
        yield rng.permutation(window)


def batches(lengths: Sequence[int], *, seed: int, epoch: int, world: int, size: int) -> Iterator[Places]:
    """The steps of one epoch: places (world, n), a row for each process; n is `size`, and less in the last step."""
    waiting = np.empty(0, np.int64)
    for window in order(lengths, seed=seed, epoch=epoch):
        waiting = np.concatenate([waiting, window])
        whole = len(waiting) // (world * size) * (world * size)
        yield from waiting[:whole].reshape(-1, world, size)
        waiting = waiting[whole:]
    if rest := _rest(len(waiting), world, size):
        yield waiting[: rest * world].reshape(world, rest)


def sizes(lengths: Sequence[int], *, world: int, size: int) -> list[int]:
    """Examples of one process in each step of an epoch."""
    whole, left = divmod(sum(lengths), world * size)
    rest = _rest(left, world, size)
    return [size] * whole + ([rest] if rest else [])


def _groups(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` values; the last may be shorter."""
    waiting = iter(values)
    while group := list(islice(waiting, size)):
        yield group


def _chunks(windows: Iterable[Places], size: int) -> Iterator[Places]:
    """The same values (n,) in arrays of `size`; what fills no array is left out."""
    waiting = np.empty(0, np.int64)
    for window in windows:
        waiting = np.concatenate([waiting, window])
        whole = len(waiting) // size * size
        yield from waiting[:whole].reshape(-1, size)
        waiting = waiting[whole:]


def _rest(left: int, world: int, size: int) -> int:
    """Examples of one process in the last step: batch norm knows no variance of one example, so never a lone one."""
    rest = left // world
    return rest if rest >= min(2, size) else 0


def share(count: int, *, rank: int, world: int, size: int) -> Iterator[tuple[Places, bool]]:
    """The places that one process validates, in batches, and whether they count.

    All processes get equally many batches, since a sharded model's forward needs them all: one that has no example
    left takes the first again, which does not count.
    """
    mine = np.arange(rank, count, world, dtype=np.int64)
    most = -(-count // world)
    for first in range(0, most, size):
        group = mine[first : first + size]
        yield (group, True) if len(group) else (np.zeros(1, np.int64), False)


def update_seed(seed: int, *, update: int, rank: int) -> int:
    """A 64-bit seed for the randomness inside one update (splitmix64), so that no generator's state is kept."""
    mixed = 0
    for part in (seed, update, rank):
        mixed = (mixed ^ part) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed
