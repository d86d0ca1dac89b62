"""JSONL: one JSON object a line, its keys the columns."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.data.columns import Columns, Values
from modelyard.data.images import named_pictures, stacked
from modelyard.errors import BadInput
from modelyard.spec.data import Data

CHUNK_BYTES = 8 << 20


class JsonlSource:
    """A file of JSON lines; a key that a line lacks is a missing value."""

    id: str | None = None

    def __init__(self, path: Path, spec: Data) -> None:
        self.path = path
        self.name = path.name
        self._declared: dict[str, str] = {name: column.type for name, column in spec.columns.items() if column.type}

    def types(self) -> dict[str, str]:
        """Declared types, else what all values of a key are."""
        return dict(self._types)

    def chunks(self) -> Iterator[Columns]:
        """Some megabytes of lines."""
        row = 0
        for rows in self._rows():
            yield {name: self._column(name, kind, rows, row) for name, kind in self._types.items()}
            row += len(rows)

    def where(self, row: int) -> str:
        """Lines are counted from 1; empty ones are no examples, so the line is counted out here."""
        left = row
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    if left == 0:
                        return f"line {number} of {self.name}"
                    left -= 1
        return f"example {row + 1} of {self.name}"

    @cached_property
    def _types(self) -> dict[str, str]:
        types: dict[str, str] = {}
        row = 0
        for rows in self._rows():
            for at, values in enumerate(rows):
                for name, value in values.items():
                    kind = _kind(value)
                    if name in self._declared or kind is None:
                        types.setdefault(name, self._declared.get(name, ""))
                        continue
                    known = types.get(name) or kind
                    if known != kind and {known, kind} != {"integer", "number"}:
                        raise BadInput(
                            f"{self.where(row + at)}: {name} is {kind} here and {known} before",
                            do="give a key values of one type",
                        )
                    types[name] = "number" if known != kind else kind
            row += len(rows)
        return {name: kind or "text" for name, kind in types.items()}

    def _rows(self) -> Iterator[list[dict[str, Any]]]:
        """Parsed lines, some megabytes at a time."""
        held, taken = [], 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    parsed = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise BadInput(f"line {number} of {self.path} is no JSON ({error})", do="mend that line") from error
                if not isinstance(parsed, dict):
                    raise BadInput(f"line {number} of {self.path} is no JSON object", do='write lines like {"a": 1}')
                held.append(parsed)
                taken += len(line)
                if taken > CHUNK_BYTES:
                    yield held
                    held, taken = [], 0
        if held:
            yield held

    def _column(self, name: str, kind: str, rows: list[dict[str, Any]], row: int) -> Values:
        values = [given.get(name) for given in rows]
        if kind == "text":
            return [value if isinstance(value, str) else _text(value) for value in values]
        if kind == "image" and any(isinstance(value, str) for value in values):
            return named_pictures(values, self.path.parent, lambda at: self.where(row + at))
        try:
            if kind in ("image", "array"):
                return stacked([None if value is None else _array(value) for value in values])
            return _numbers(values, kind)
        except (TypeError, ValueError):
            bad = next(at for at, value in enumerate(values) if not _fits(value, kind))
            raise BadInput(
                f"{self.where(row + bad)}: {name} is {str(values[bad])[:40]}, which is no {kind}", do="mend that line"
            ) from None


def _kind(value: Any) -> str | None:
    """A value's own type; None says nothing."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "image" if value and isinstance(value[0], list) else "array"
    if isinstance(value, dict):
        return "object"
    return "integer" if isinstance(value, int) and abs(value) < 2**63 else "number"


def _numbers(values: list[Any], kind: str) -> Values:
    if any(isinstance(value, str | list | dict) for value in values):
        raise TypeError
    if any(value is None for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(values, {"boolean": bool, "integer": np.int64, "number": np.float64}[kind])


def _array(value: Any) -> Any:
    """Nested lists of numbers as float32."""
    array = np.array(value)
    if array.dtype.kind not in "iufb" or array.size == 0:
        raise ValueError
    return array.astype(np.float32)


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _fits(value: Any, kind: str) -> bool:
    try:
        if value is not None:
            _array(value) if kind in ("image", "array") else _numbers([value], kind)
    except (TypeError, ValueError):
        return False
    return True
