"""Which examples meet in which step: a pure function of seed and epoch, so that any step can be found again.

An epoch's order does not depend on the number of processes: shards are shuffled, then the examples within a window of
a few shards. Memory is bounded by the window. Each step takes `world * size` examples; the rest at the end of an
epoch is dealt out evenly, so that averaging over processes stays exact.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

WINDOW = 4
"""Shards among which examples are mixed; as many as a reader keeps open."""

Places = npt.NDArray[np.int64]


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
