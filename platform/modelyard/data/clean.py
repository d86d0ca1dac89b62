"""What to do about values that are missing or are no numbers, and about equal examples. Pure."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from modelyard.data.columns import Columns, Values, infinite, length, missing
from modelyard.errors import BadInput
from modelyard.spec.data import Data

Mask = npt.NDArray[np.bool_]
Where = Callable[[int], str]


def fill(spec: Data, columns: Columns, where: Where) -> tuple[Columns, int]:
    """Put the declared values in the place of missing ones; gives also how many.

    Raises:
        BadInput: a column has no declared value, or one of another type.
    """
    if spec.checks.missing != "fill":
        return columns, 0
    filled, count = dict(columns), 0
    for name, values in columns.items():
        lacking = missing(values)
        if not lacking.any():
            continue
        if name not in spec.checks.fill or name == spec.labels.column:
            raise BadInput(
                f"{where(int(np.argmax(lacking)))}: {name} is missing and data.checks.fill has no value for it",
                do=f"add data.checks.fill.{name}" if name != spec.labels.column else "use data.checks.missing: drop",
            )
        filled[name] = _filled(name, values, lacking, spec.checks.fill[name])
        count += int(lacking.sum())
    return filled, count


def incomplete(spec: Data, columns: Columns, where: Where) -> Mask:
    """(N,): examples to be dropped since a value is missing.

    Raises:
        BadInput: a value is missing under `missing: refuse`, or is infinite under any rule.
    """
    dropped = np.zeros(length(columns), bool)
    for name, values in columns.items():
        if (bad := infinite(values)).any():
            raise BadInput(
                f"{where(int(np.argmax(bad)))}: {name} is infinite ({int(bad.sum())} such values here)",
                do="mend the value or leave the example out of the source",
            )
        lacking = missing(values)
        if lacking.any() and spec.checks.missing == "refuse":
            raise BadInput(
                f"{where(int(np.argmax(lacking)))}: {name} is missing or NaN ({int(lacking.sum())} such values here)",
                do="mend it, or set data.checks.missing to drop or fill",
            )
        dropped |= lacking
    return dropped


def doubles(contents: Sequence[bytes], ids: Sequence[str]) -> Mask:
    """(N,): examples whose equal, by features and label, is kept: the one with the smallest id, in whatever order."""
    kept: dict[bytes, int] = {}
    for at, content in enumerate(contents):
        if content not in kept or ids[at] < ids[kept[content]]:
            kept[content] = at
    return np.fromiter((kept[content] != at for at, content in enumerate(contents)), bool, len(contents))


def first_double(names: Sequence[str]) -> tuple[int, int] | None:
    """Places of the first two equal names."""
    seen: dict[str, int] = {}
    for at, name in enumerate(names):
        if name in seen:
            return seen[name], at
        seen[name] = at
    return None


def _filled(name: str, values: Values, lacking: Mask, value: float | str) -> Values:
    if isinstance(values, np.ndarray) and values.ndim == 1 and not isinstance(value, str):
        return np.where(lacking, float(value), values)
    if isinstance(values, list) and isinstance(value, str) and all(isinstance(v, str | None) for v in values):
        return [value if gone else kept for kept, gone in zip(values, lacking, strict=True)]
    raise BadInput(
        f"data.checks.fill.{name} is {value!r}, which is no value of that column",
        do="give a number for numbers and a text for text; images and arrays cannot be filled",
    )
