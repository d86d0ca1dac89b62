"""Examples on their way to shards, in an order that the source does not decide.

Each example's place is known before it is read again, so it is handed to its shard at once. What does not
fit into memory waits in a file for each shard: memory is bounded by one shard and the buffer.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.data.columns import Array, Columns, Values, joined, take
from modelyard.data.shards import from_batch, to_batch
from modelyard.storage.atomic import explained

BUFFER_BYTES = 64 << 20
_PLACE = "\0place"
"""A column beside the others that no source can name."""

Piece = tuple[npt.NDArray[np.intp], Columns]


class Shuffle:
    """Collects examples by shard and gives each shard's back in their places."""

    def __init__(self, work: Path, *, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._work = work
        self._limit = buffer_bytes
        self._held = 0
        self._pieces: dict[int, list[Piece]] = defaultdict(list)

    def add(self, shards: npt.NDArray[np.intp], places: npt.NDArray[np.intp], columns: Columns) -> None:
        """Hand over examples (N,) with the number of their shard (-1: not wanted) and their place in it."""
        for shard in np.unique(shards):
            if shard >= 0:
                rows = np.flatnonzero(shards == shard)
                piece = {name: take(values, rows) for name, values in columns.items()}
                self._pieces[int(shard)].append((places[rows], piece))
                self._held += sum(_bytes(values) for values in piece.values())
        if self._held > self._limit:
            self._spill()

    def shard(self, number: int) -> Columns:
        """All examples of one shard, by place; they are forgotten here."""
        pieces = [*self._spilled(number), *self._pieces.pop(number, [])]
        order = np.argsort(np.concatenate([places for places, _ in pieces]))
        names = pieces[0][1]
        return {name: take(joined([columns[name] for _, columns in pieces]), order) for name in names}

    def _spill(self) -> None:
        for shard, pieces in self._pieces.items():
            path = self._path(shard)
            with explained(path), path.open("ab") as file:
                for places, columns in pieces:
                    batch = to_batch({_PLACE: places.astype(np.int64), **columns})
                    sink = pa.BufferOutputStream()
                    with pa.ipc.new_stream(sink, batch.schema) as writer:
                        writer.write_batch(batch)
                    raw = sink.getvalue()
                    file.write(len(raw).to_bytes(8, "little"))
                    file.write(raw)
        self._pieces.clear()
        self._held = 0

    def _spilled(self, shard: int) -> Iterator[Piece]:
        path = self._path(shard)
        if not path.exists():
            return
        with path.open("rb") as file:
            while head := file.read(8):
                reader = pa.ipc.open_stream(file.read(int.from_bytes(head, "little")))
                columns = from_batch(reader.read_next_batch())
                places = columns.pop(_PLACE)
                assert isinstance(places, np.ndarray)
                yield places, columns
        path.unlink()

    def _path(self, shard: int) -> Path:
        return self._work / f"{shard}.spill"


def _bytes(values: Values) -> int:
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(value.nbytes if isinstance(value, np.ndarray) else len(value) + 50 for value in values)


def places_of(order: Sequence[int], shard_size: int, count: int, *, first: int) -> tuple[Array, Array]:
    """For examples taken in this order: number of the shard, from `first` on, and place in it, each (count,)."""
    shards, places = np.full(count, -1, np.intp), np.zeros(count, np.intp)
    ranks = np.arange(len(order))
    shards[np.asarray(order, np.intp)] = first + ranks // shard_size
    places[np.asarray(order, np.intp)] = ranks % shard_size
    return shards, places
