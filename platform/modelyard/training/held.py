"""Shards as ready tensors: transformed once, then a batch is one index. For data small enough to be held so.

Gives the same bits as transforming each batch, since every step of `Loaded.batch` works on each example alone.
"""

import math
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelyard.data.shards import SplitReader
from modelyard.model.recipe import Loaded
from modelyard.training.plan import WINDOW, Places

HELD_BYTES = 64 << 20
"""A shard that is larger than this as tensors is transformed batch by batch."""


class HeldShards:
    """The last few shards of a split as tensors; a split of so few as one."""

    def __init__(self, loaded: Loaded, reader: SplitReader) -> None:
        self._loaded, self._reader = loaded, reader
        self._starts = np.concatenate([[0], np.cumsum(reader.lengths)])
        self._held: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._whole: dict[str, Any] | None = None

    @staticmethod
    def fits(loaded: Loaded, reader: SplitReader) -> bool:
        """Whether a shard is small enough, and its size known beforehand."""
        shapes: list[list[int] | None] = [feature.get("shape") for feature in loaded.facts.features]
        numbers = sum(math.prod(shape) for shape in shapes if shape is not None)
        if any(shape is None or None in shape for shape in shapes):
            return False
        return 4 * numbers * max(reader.lengths, default=0) <= HELD_BYTES

    def take(self, places: Places) -> dict[str, Any]:
        """The examples at these places as a batch, in that order."""
        if len(self._reader.lengths) <= WINDOW:
            if self._whole is None:
                self._whole = self._loaded.batch(self._reader.take(np.arange(len(self._reader))))
            return _picked(self._whole, places)
        owners = np.searchsorted(self._starts, places, side="right") - 1
        shards = np.unique(owners)
        if len(shards) == 1:
            return _picked(self._shard(int(shards[0])), places - self._starts[shards[0]])
        where = [np.flatnonzero(owners == shard) for shard in shards]
        parts = [
            _picked(self._shard(int(shard)), places[at] - self._starts[shard])
            for shard, at in zip(shards, where, strict=True)
        ]
        order = np.argsort(np.concatenate(where))
        back = torch.from_numpy(order)
        return {
            name: torch.cat([part[name] for part in parts])[back]
            if isinstance(value, Tensor)
            else _reordered([one for part in parts for one in part[name]], order)
            for name, value in parts[0].items()
        }

    def _shard(self, number: int) -> dict[str, Any]:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        while len(self._held) >= WINDOW:
            self._held.popitem(last=False)
        self._held[number] = self._loaded.batch(self._reader.read(number))
        return self._held[number]


def _picked(batch: dict[str, Any], places: Places) -> dict[str, Any]:
    index = torch.from_numpy(places)
    return {
        name: value[index] if isinstance(value, Tensor) else _reordered(value, places) for name, value in batch.items()
    }


def _reordered(values: list[Any], places: Places) -> list[Any]:
    return [values[place] for place in places.tolist()]
