"""What `data.columns` says must be true of the values, checked with pandera."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from modelyard.data.columns import Columns, is_scalar, is_text
from modelyard.errors import BadInput
from modelyard.spec.data import Data


def check_columns(spec: Data, columns: Columns, *, where: Callable[[int], str]) -> None:
    """Check a chunk's numbers and texts against their ranges and lists; what is missing is judged elsewhere.

    Raises:
        BadInput: names the first value that is out of bounds.
    """
    declared = {
        name: column
        for name, column in spec.columns.items()
        if name in columns and (column.min is not None or column.max is not None or column.one_of is not None)
    }
    if not declared:
        return
    import pandas as pd  # noqa: PLC0415 - seconds to import, and most data sets declare nothing
    import pandera.pandas as pa  # noqa: PLC0415

    for name, column in declared.items():
        values = columns[name]
        if not is_scalar(values) and not is_text(values):
            raise BadInput(f"data.columns.{name}: min, max and oneOf do not apply to arrays", do="leave them out")
        if is_text(values) and (column.min is not None or column.max is not None):
            raise BadInput(f"data.columns.{name}: min and max do not apply to text", do="leave them out")
        checks = []
        if column.min is not None:
            checks.append(pa.Check.ge(column.min, error=f"is below min {column.min:g}"))
        if column.max is not None:
            checks.append(pa.Check.le(column.max, error=f"is above max {column.max:g}"))
        if column.one_of is not None:
            allowed = _allowed(column.one_of, numeric=isinstance(values, np.ndarray), name=name)
            checks.append(pa.Check.isin(allowed, error=f"is not one of {', '.join(column.one_of)}"))
        schema = pa.SeriesSchema(None, checks=checks, nullable=True)
        try:
            schema.validate(pd.Series(values), lazy=True)
        except pa.errors.SchemaErrors as errors:
            failed = errors.failure_cases.sort_values("index", kind="stable").iloc[0]
            raise BadInput(
                f"{where(int(failed['index']))}: {name} is {_plain(failed['failure_case'])!r}, which {failed['check']}"
                f" ({len(errors.failure_cases)} such values here)",
                do=f"correct the value or data.columns.{name}",
            ) from None


def _allowed(one_of: Iterable[str], *, numeric: bool, name: str) -> list[Any]:
    if not numeric:
        return list(one_of)
    try:
        return [float(value) for value in one_of]
    except ValueError as error:
        raise BadInput(f"data.columns.{name}.oneOf: {error}", do="list numbers, or declare type: text") from None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
