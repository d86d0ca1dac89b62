"""Shards: Arrow files that are read as a stream, one at a time, straight from the page cache.

One shard is one uncompressed record batch, so a column is an array over the mapped file: opening it
copies nothing, and memory is bounded by the shard. Written bytes depend on nothing but the examples.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.data.columns import Array, Columns, Values, put, take
from modelyard.data.prepared import PreparedData, Shard, load_prepared
from modelyard.errors import BadInput, Tampered
from modelyard.storage.atomic import digest_file, explained
from modelyard.storage.kept import Kept, kept_here
from modelyard.storage.port import Store, open_store

OPEN_SHARDS = 4
"""Shards that a reader keeps open. More would let it keep the whole data set in memory."""


_DTYPES = {"double": "float64", "float": "float32", "halffloat": "float16"}
"""Arrow's names that numpy does not know."""


def write_shard(path: Path, columns: Columns) -> Shard:
    """Write one shard.

    Raises:
        StageFailed: no space left.
    """
    batch = to_batch(columns)
    with explained(path), pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    return Shard(name=path.name, examples=len(batch), digest=digest_file(path), bytes=path.stat().st_size)


def open_shard(path: Path) -> pa.RecordBatch:
    """One shard, mapped: nothing is copied, and the mapping lives as long as what is taken from it."""
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)


class SplitReader:
    """The examples of one split, in their order.

    Args:
        folder: What `prepare` wrote.
        split: `train`, `validation` or `test`.
        verify: Compare each shard with its digest when it is opened for the first time.

    Raises:
        BadInput: no prepared data, or no such split.
            Also, when a shard is opened: it is gone.
        Tampered: a shard is cut short or differs from its digest (when it is opened).
    """

    def __init__(self, folder: Path, split: str, *, verify: bool = True) -> None:
        self.prepared: PreparedData = load_prepared(folder)
        if split not in self.prepared.splits:
            raise BadInput(
                f"There is no split {split!r} in {folder}", do=f"name one of {', '.join(self.prepared.splits)}"
            )
        self.shards: tuple[Shard, ...] = self.prepared.splits[split]
        self.lengths: tuple[int, ...] = tuple(shard.examples for shard in self.shards)
        self._starts = np.array([0, *accumulate(self.lengths)])
        self._store: Store = open_store(self.prepared.location or str(folder))
        self._kept: Kept | None = kept_here() if "://" in self._store.uri else None
        self._unverified = set(range(len(self.shards))) if verify else set()
        self._open: OrderedDict[int, Columns] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, shard: int) -> Columns:
        """All columns of one shard: arrays (N, …) over the mapped file, read-only, and lists of text."""
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        while len(self._open) >= OPEN_SHARDS:
            self._open.popitem(last=False)
        self._open[shard] = columns = from_batch(self._batch(shard))
        return columns

    def take(self, index: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Columns:
        """The examples at these places of the split (M,), in that order, as writable copies: a batch in one go.

        Fastest where the places lie in few shards; sorted access and shuffling within a shard are.
        """
        places = np.asarray(index, np.intp)
        owners = np.searchsorted(self._starts, places, side="right") - 1
        batch: Columns = {}
        for owner in dict.fromkeys(owners.tolist() or [0]):
            rows = np.flatnonzero(owners == owner)
            within = places[rows] - self._starts[owner]
            for name, values in self.read(owner).items():
                if len(rows) == len(places):
                    batch[name] = take(values, within)
                else:
                    put(batch, name, rows, take(values, within), count=len(places))
        return batch

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[dict[str, Any]]:
        """Each example as a dict: `id`, the label under its column's name, features as arrays, numbers or text."""
        stop = len(self) if stop is None else min(stop, len(self))
        for shard, begins in enumerate(self._starts[:-1].tolist()):
            first, last = max(start - begins, 0), min(stop - begins, self.lengths[shard])
            if first < last:
                columns = self.read(shard)
                for at in range(first, last):
                    yield {name: plain(values[at]) for name, values in columns.items()}

    def _batch(self, shard: int) -> pa.RecordBatch:
        described = self.shards[shard]
        with self._opened(described) as path:
            if shard in self._unverified:
                if digest_file(path) != described.digest:
                    if self._kept:
                        self._kept.forget(described.digest)
                    raise Tampered(
                        f"Shard {described.name} in {self._store.uri} is cut short or changed",
                        do="run again from the stage prepare",
                    )
                self._unverified.discard(shard)
            return open_shard(path)

    def _opened(self, shard: Shard) -> AbstractContextManager[Path]:
        fetch = partial(self._store.opened, shard.name, version=shard.version)
        return self._kept.opened(shard.digest, fetch) if self._kept else fetch()


def plain(value: Any) -> Any:
    """A value of a column as a row has it: numbers and truth values as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def to_batch(columns: Columns) -> pa.RecordBatch:
    """A chunk as Arrow's record batch; see `from_batch`."""
    fields, arrays = [], []
    for name, values in columns.items():
        array = _to_arrow(values)
        fields.append(pa.field(name, array.type, nullable=False))
        arrays.append(array)
    return pa.record_batch(arrays, schema=pa.schema(fields))


def from_batch(batch: pa.RecordBatch) -> Columns:
    """Arrow's record batch as a chunk: arrays over its memory."""
    return {field.name: _from_arrow(batch.column(at)) for at, field in enumerate(batch.schema)}


def _to_arrow(values: Values) -> pa.Array:
    """A column as Arrow's array, by its buffers: `pa.array` imports pandas, half a second in each process."""
    if isinstance(values, np.ndarray):
        flat = np.ascontiguousarray(values).reshape(-1)
        if flat.dtype == bool:
            packed = np.packbits(flat, bitorder="little")
            return pa.Array.from_buffers(pa.bool_(), len(flat), [None, pa.py_buffer(packed)])
        numbers = pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])
        if values.ndim == 1:
            return numbers
        kind = pa.fixed_shape_tensor(numbers.type, values.shape[1:])
        lists = pa.Array.from_buffers(kind.storage_type, len(values), [None], children=[numbers])
        return pa.ExtensionArray.from_storage(kind, lists)
    if all(isinstance(value, str) for value in values):
        return _bytes_array([value.encode() for value in values], pa.large_string())
    kept = [np.ascontiguousarray(value) for value in values]
    layouts = [json.dumps([value.dtype.str, value.shape]).encode() for value in kept]
    pixels = _bytes_array([value.tobytes() for value in kept], pa.large_binary())
    return pa.StructArray.from_arrays([pixels, _bytes_array(layouts, pa.large_string())], ["data", "layout"])


def _bytes_array(values: list[bytes], kind: pa.DataType) -> pa.Array:
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))])


def _from_arrow(array: pa.Array) -> Values:
    """Arrow's array as a column, over the same memory; without pandas, see `_to_arrow`."""
    if isinstance(array.type, pa.FixedShapeTensorType):
        return _numbers(array.storage.flatten()).reshape(len(array), *array.type.shape)
    if pa.types.is_large_string(array.type):
        text: list[str] = array.to_pylist()
        return text
    if pa.types.is_struct(array.type):
        layouts = [json.loads(layout) for layout in array.field("layout").to_pylist()]
        raw = array.field("data")
        return [
            np.frombuffer(raw[at].as_buffer(), layouts[at][0]).reshape(layouts[at][1]) for at in range(len(layouts))
        ]
    return _numbers(array)


def _numbers(array: pa.Array) -> Array:
    """Numbers (N,) without missing ones."""
    memory = array.buffers()[1]
    window = slice(array.offset, array.offset + len(array))
    if pa.types.is_boolean(array.type):
        bits = np.unpackbits(np.frombuffer(memory, np.uint8), bitorder="little") if memory else np.empty(0, np.uint8)
        return bits[window].astype(bool)
    dtype = np.dtype(_DTYPES.get(str(array.type), str(array.type)))
    return np.frombuffer(memory, dtype)[window] if memory else np.empty(0, dtype)
