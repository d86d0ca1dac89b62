"""Examples in memory: a chunk of a data set as one value per column.

A chunk is a dict from a column's name to its values, N of each:

- numbers: an array (N,) of float64 or int64, a missing one NaN;
- truth values: an array (N,) of bool;
- text: a list of `str`, a missing one None;
- images and other arrays: one array (N, …) where all have one shape, else a list of arrays; a missing one None.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Values = Array | list[Any]
Columns = dict[str, Values]


def is_scalar(values: Values) -> bool:
    """Whether a column holds one number or truth value for each example."""
    return isinstance(values, np.ndarray) and values.ndim == 1


def is_text(values: Values) -> bool:
    """Whether a column holds text (or only missing values)."""
    return isinstance(values, list) and all(value is None or isinstance(value, str) for value in values)


def missing(values: Values) -> npt.NDArray[np.bool_]:
    """(N,): which values are missing; an array with a NaN inside is missing as a whole."""
    if isinstance(values, list):
        return np.fromiter((value is None or bool(np.any(_nan(value))) for value in values), bool, len(values))
    return _any_inside(_nan(values))


def infinite(values: Values) -> npt.NDArray[np.bool_]:
    """(N,): which values are or hold an infinity."""
    if isinstance(values, list):
        return np.fromiter((isinstance(v, np.ndarray) and bool(np.isinf(v).any()) for v in values), bool, len(values))
    if not np.issubdtype(values.dtype, np.floating):
        return np.zeros(len(values), bool)
    return _any_inside(np.isinf(values))


def take(values: Values, index: npt.NDArray[np.intp]) -> Values:
    """The values at `index` (M,), in that order, as a copy."""
    return values[index] if isinstance(values, np.ndarray) else [values[i] for i in index]


def put(columns: Columns, name: str, rows: npt.NDArray[np.intp], values: Values, *, count: int) -> None:
    """Put values at `rows` (M,) of a column that will hold `count` in the end."""
    there = columns.get(name)
    if isinstance(values, np.ndarray) and (there is None or isinstance(there, np.ndarray)):
        if there is None:
            columns[name] = there = np.empty((count, *values.shape[1:]), values.dtype)
        if there.shape[1:] == values.shape[1:]:
            there[rows] = values
            return
    if not isinstance(there, list):  # one shape in some shards, many in others
        columns[name] = there = [None] * count if there is None else list(there)
    for row, value in zip(rows.tolist(), values, strict=True):
        there[row] = value


def length(columns: Columns) -> int:
    """N, the number of examples in a chunk."""
    return len(next(iter(columns.values()))) if columns else 0


def joined(pieces: Sequence[Values]) -> Values:
    """Pieces of one column, one after the other."""
    if all(isinstance(piece, np.ndarray) for piece in pieces):
        arrays = [piece for piece in pieces if isinstance(piece, np.ndarray)]
        if len({array.shape[1:] for array in arrays}) == 1:
            return np.concatenate(arrays)
    return [value for piece in pieces for value in piece]


def example_digests(columns: Columns, names: Iterable[str]) -> list[bytes]:
    """sha256 (32 bytes) of each example's values in the named columns: the same values, the same digest.

    Depends on neither the order of the examples nor the chunk they are in.
    """
    names = sorted(names)
    head = json.dumps(names).encode()
    parts = [_row_bytes(columns[name]) for name in names]
    return [hashlib.sha256(b"".join((head, *(part[row] for part in parts)))).digest() for row in range(length(columns))]


def _row_bytes(values: Values) -> list[bytes]:
    """Each value as bytes that no other value of its column shares."""
    if isinstance(values, list):
        return [_value_bytes(value) for value in values]
    if values.ndim == 1:
        raw = (values.astype("<f8") + 0.0).tobytes()  # a whole number equals its float, and -0.0 equals 0.0
        parts = [raw[at : at + 8] for at in range(0, len(raw), 8)]
        if values.dtype.kind in "iu":
            for at in np.flatnonzero(np.abs(values) > 2**53):  # two of these may share a float
                parts[at] += int(values[at]).to_bytes(9, "little", signed=True)
        return parts
    return [_value_bytes(row) for row in values]


def _value_bytes(value: Any) -> bytes:
    if value is None:
        return b"\0"
    if isinstance(value, str):
        raw = value.encode()
        return b"\1" + len(raw).to_bytes(8, "little") + raw
    shape = f"\2{value.dtype.str}{value.shape}".encode()
    return shape + np.ascontiguousarray(value).tobytes()


def _nan(values: Any) -> npt.NDArray[np.bool_]:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        return np.zeros(array.shape, bool)
    nan: npt.NDArray[np.bool_] = np.isnan(array)
    return nan


def _any_inside(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(N, …) → (N,): whether any is set within each value."""
    return np.asarray(flags.any(axis=tuple(range(1, flags.ndim))), bool)
