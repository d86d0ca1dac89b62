"""What is learned from the training split alone, for the recipe: classes, features, normalization."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from modelyard.data.columns import Array, Columns

NORMALIZED = ("number", "integer", "image", "array")


BLOCK = 1 << 18
"""Numbers that are looked at together: a copy of so many in float64 stays in the cache."""


def blocks(values: Array) -> Iterator[Array]:
    """All numbers of an array of any shape, piece by piece (n,)."""
    flat = values.reshape(-1)
    for at in range(0, flat.size, BLOCK):
        yield flat[at : at + BLOCK]


class Moments:
    """Mean and spread of a column, gathered shard by shard (Chan, Golub, LeVeque 1979, equation 2.1)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0
        self.min = np.inf
        self.max = -np.inf

    def add(self, values: Array) -> None:
        """Take in all numbers of an array of any shape."""
        for block in blocks(values):
            self._add(block)

    def _add(self, flat: Array) -> None:
        flat = flat.astype(np.float64)
        mean = float(flat.mean())
        squares = float(np.square(flat - mean).sum())
        total = self.count + flat.size
        delta = mean - self.mean
        self._squares += squares + delta * delta * self.count * flat.size / total
        self.mean += delta * flat.size / total
        self.count = total
        self.min = min(self.min, float(flat.min()))
        self.max = max(self.max, float(flat.max()))

    @property
    def std(self) -> float:
        """Standard deviation over all numbers."""
        return float(np.sqrt(self._squares / self.count)) if self.count else 0.0


def moments(chunks: Iterable[Columns], names: Sequence[str]) -> dict[str, Moments]:
    """Moments of the named columns, over chunks."""
    gathered = {name: Moments() for name in names}
    for columns in chunks:
        for name, sums in gathered.items():
            values = columns[name]
            for part in [values] if isinstance(values, np.ndarray) else values:
                sums.add(part)
    return gathered


def facts_of(
    *,
    classes: Sequence[str],
    features: Sequence[str],
    columns: Mapping[str, Mapping[str, Any]],
    train: Mapping[str, Moments],
    label: Mapping[str, str],
) -> dict[str, Any]:
    """`modelyard.model.facts.Facts` as JSON."""
    return {
        "classes": list(classes),
        "features": [{"name": name, **columns[name]} for name in features],
        "normalization": {name: {"mean": sums.mean, "std": sums.std} for name, sums in train.items() if sums.count},
        "label": dict(label),
    }
