"""Parquet: read row group by row group; pictures may lie inside as PNG or JPEG bytes."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelyard.data.arrays import tidy
from modelyard.data.columns import Columns, Values
from modelyard.data.images import decoded, named_pictures, stacked
from modelyard.errors import BadInput
from modelyard.spec.data import Data

CHUNK_BYTES = 32 << 20


class ParquetSource:
    """One Parquet file."""

    id: str | None = None

    def __init__(self, path: Path, spec: Data) -> None:
        self.path = path
        self.name = path.name
        self._declared: dict[str, str] = {name: column.type for name, column in spec.columns.items() if column.type}
        with self._opened() as file:
            self._schema: pa.Schema = file.schema_arrow
            self._count: int = file.metadata.num_rows
            size = sum(file.metadata.row_group(at).total_byte_size for at in range(file.metadata.num_row_groups))
        self._step = max(1, min(65536, CHUNK_BYTES * max(self._count, 1) // max(size, 1)))

    def types(self) -> dict[str, str]:
        """Declared types, else by the file's schema."""
        return dict(self._types)

    def chunks(self) -> Iterator[Columns]:
        """Some megabytes of rows."""
        row = 0
        with self._opened() as file:
            batches = file.iter_batches(batch_size=self._step)
            while True:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except (pa.ArrowException, OSError) as error:
                    raise self._damaged(error) from error
                yield {
                    name: self._column(name, batch.column(at), kind, row)
                    for at, (name, kind) in enumerate(self._types.items())
                }
                row += len(batch)

    def where(self, row: int) -> str:
        """Rows are counted from 1."""
        return f"row {row + 1} of {self.name}"

    @cached_property
    def _types(self) -> dict[str, str]:
        return {field.name: self._declared.get(field.name) or self._type(field) for field in self._schema}

    def _type(self, field: pa.Field) -> str:
        known = _type_of(field.type)
        if known is None:
            raise BadInput(
                f"{self.name}: column {field.name} is of type {field.type}, which is not read",
                do=f"declare data.columns.{field.name}.type: image if it holds pictures, or leave it out of the file",
            )
        return known

    def _opened(self) -> Any:
        try:
            return pq.ParquetFile(self.path)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> BadInput:
        return BadInput(f"{self.path} is no whole Parquet file ({error})", do="write or copy it again")

    def _column(self, name: str, raw: pa.Array, kind: str, row: int) -> Values:
        try:
            return self._values(raw, kind, row)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise BadInput(
                f"{self.where(row)} or after: {name} is no {kind} ({error})", do="correct its type"
            ) from error

    def _values(self, raw: pa.Array, kind: str, row: int) -> Values:
        if isinstance(raw, pa.FixedShapeTensorArray):
            return tidy(raw.to_numpy_ndarray())
        if pa.types.is_dictionary(raw.type):
            raw = raw.dictionary_decode()
        if kind == "text":
            return [value or None for value in raw.cast(pa.large_string()).to_pylist()]
        if kind in ("image", "array"):
            return self._arrays(raw, row)
        if pa.types.is_large_string(raw.type) or pa.types.is_string(raw.type):
            raise TypeError(f"it holds text like {raw[0].as_py()!r}")
        if raw.null_count or kind == "number":
            floats: Any = raw.cast(pa.float64()).to_numpy(zero_copy_only=False)
            return np.asarray(floats)
        numbers: Any = raw.cast(pa.bool_() if kind == "boolean" else pa.int64()).to_numpy(zero_copy_only=False)
        return np.asarray(numbers)

    def _arrays(self, raw: pa.Array, row: int) -> Values:
        if pa.types.is_struct(raw.type):
            raw = pc.struct_field(raw, "bytes")
        if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
            return named_pictures(raw.to_pylist(), self.path.parent, lambda at: self.where(row + at))
        if pa.types.is_binary(raw.type) or pa.types.is_large_binary(raw.type):
            pictures = enumerate(raw.to_pylist())
            return stacked([None if raw is None else decoded(raw, self.where(row + at)) for at, raw in pictures])
        return stacked([None if value is None else _array(value) for value in raw.to_pylist()])


def _array(value: Any) -> Any:
    array = np.array(value)
    if array.dtype.kind not in "iufb":
        raise ValueError("lists of different lengths, or no numbers")
    return array.astype(np.float32)


def _type_of(kind: pa.DataType) -> str | None:
    """Our name of Arrow's type."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return "image" if len(kind.shape) > 1 else "array"
    if pa.types.is_dictionary(kind):
        return _type_of(kind.value_type)
    tests = {
        "boolean": pa.types.is_boolean,
        "integer": pa.types.is_integer,
        "number": lambda t: pa.types.is_floating(t) or pa.types.is_decimal(t),
        "text": lambda t: (
            pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_temporal(t) or pa.types.is_null(t)
        ),
        "image": lambda t: pa.types.is_struct(t) and t.get_field_index("bytes") >= 0,
    }
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _type_of(kind.value_type)
        return {"integer": "array", "number": "array", "array": "image", "image": "image"}.get(inner or "")
    return next((name for name, test in tests.items() if test(kind)), None)
