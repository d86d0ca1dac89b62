"""CSV: text that is read as text first, so that a type is decided by all values, not by the first block."""

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from modelyard.data.columns import Columns, Values
from modelyard.data.images import named_pictures
from modelyard.errors import BadInput
from modelyard.spec.data import Data

MISSING = pa.array(["", "NA", "N/A", "NaN", "nan", "null", "NULL"])
"""What counts as missing in a column of numbers; in text only the empty field does (NA is a country)."""
BLOCK_BYTES = 8 << 20


class CsvSource:
    """A CSV file with a header line; `.tsv` is split at tabs."""

    id: str | None = None

    def __init__(self, path: Path, spec: Data) -> None:
        self.path = path
        self.name = path.name
        self._declared: dict[str, str] = {name: column.type for name, column in spec.columns.items() if column.type}
        if spec.labels.kind != "number":
            self._declared.setdefault(spec.labels.column, "text")
        for name in (spec.id, spec.splits.group):
            if name:
                self._declared.setdefault(name, "text")

    def types(self) -> dict[str, str]:
        """Declared types, else what all values of a column can be read as."""
        return self._types

    def chunks(self) -> Iterator[Columns]:
        """Blocks of lines."""
        types, row = self._types, 0
        for batch in self._batches():
            yield {name: self._column(name, batch.column(at), types[name], row) for at, name in enumerate(types)}
            row += len(batch)

    def where(self, row: int) -> str:
        """Data rows are counted from 1; a quoted field may hold line breaks, so lines cannot be."""
        return f"row {row + 1} of {self.name}"

    @cached_property
    def _names(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                head = file.readline().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadInput(f"{self.path} is not UTF-8 text ({error.reason})", do="save it as UTF-8") from error
        names = next(csv.reader([head], delimiter=self._delimiter), [])
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or not names or not all(names):
            what = f"names {doubled} twice" if doubled else "has a column without a name"
            raise BadInput(f"The header line of {self.path} {what}", do="give each column a name of its own")
        return names

    @property
    def _delimiter(self) -> str:
        return "\t" if self.path.suffix.lower() == ".tsv" else ","

    @cached_property
    def _types(self) -> dict[str, str]:
        """Every column starts as the narrowest type and falls back as values refuse."""
        types: dict[str, str] = {name: self._declared.get(name, "boolean") for name in self._names}
        open_names = [name for name in types if name not in self._declared]
        seen = dict.fromkeys(open_names, False)
        for batch in self._batches():
            for name in open_names:
                values = _present(batch.column(name))
                seen[name] |= len(values) > 0
                while len(values) and types[name] != "text" and not _reads_as(values, types[name]):
                    types[name] = {"boolean": "integer", "integer": "number", "number": "text"}[types[name]]
        return {name: "text" if not seen.get(name, True) else kind for name, kind in types.items()}

    def _batches(self) -> Iterator[pa.RecordBatch]:
        strings = {name: pa.string() for name in self._names}
        try:
            with pacsv.open_csv(
                self.path,
                read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES, column_names=self._names, skip_rows=1),
                parse_options=pacsv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(column_types=strings, strings_can_be_null=False),
            ) as reader:
                yield from reader
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                raise BadInput(f"{self.path} has a header and no examples", do="name a file with examples") from error
            raise BadInput(f"{self.path} is no CSV that can be read: {error}", do="mend that line") from error

    def _column(self, name: str, raw: pa.Array, kind: str, row: int) -> Values:
        if kind == "text":
            return [value or None for value in raw.to_pylist()]
        if kind == "image":
            names = [value or None for value in raw.to_pylist()]
            return named_pictures(names, self.path.parent, lambda at: self.where(row + at))
        values = _blank(raw)
        try:
            if kind == "boolean":
                return _numbers(_as_boolean(values), pa.bool_())
            return _numbers(values, pa.int64() if kind == "integer" else pa.float64())
        except (pa.ArrowInvalid, KeyError):
            bad = next(at for at, value in enumerate(values) if not _reads_as(pa.array([value], pa.string()), kind))
            raise BadInput(
                f"{self.where(row + bad)}: {name} is {values[bad].as_py()!r}, which is no {kind}",
                do=f"mend it or declare data.columns.{name}.type: text",
            ) from None


def _blank(raw: pa.Array) -> pa.Array:
    """Text with what counts as missing made null."""
    values = pc.utf8_trim_whitespace(raw)
    return pc.if_else(pc.is_in(values, value_set=MISSING), pa.scalar(None, pa.string()), values)


def _present(raw: pa.Array) -> pa.Array:
    return pc.drop_null(_blank(raw))


def _as_boolean(values: pa.Array) -> pa.Array:
    """Only the words count: 0 and 1 stay numbers."""
    lower = pc.utf8_lower(values)
    if not pc.all(pc.is_in(pc.drop_null(lower), value_set=pa.array(["true", "false"]))).as_py() and len(lower):
        raise pa.ArrowInvalid("no truth value")
    return pc.equal(lower, "true")


def _reads_as(values: pa.Array, kind: str) -> bool:
    try:
        if kind == "boolean":
            _as_boolean(values)
        elif kind != "text":
            values.cast(pa.int64() if kind == "integer" else pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _numbers(values: pa.Array, kind: Any) -> Values:
    """Numbers as an array (N,): floats with NaN where one is missing."""
    array = values.cast(kind)
    if array.null_count == 0:
        numbers: np.ndarray[Any, Any] = array.to_numpy(zero_copy_only=False)
        return numbers
    floats: np.ndarray[Any, Any] = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats
