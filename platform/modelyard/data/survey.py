"""The first look at a source: everything that decisions need to know of each example, and nothing more."""

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from modelyard.data.clean import fill, incomplete
from modelyard.data.columns import Columns, Values, example_digests, length, take
from modelyard.data.labels import check_kind, label_names
from modelyard.data.schema import check_columns
from modelyard.data.sources import Source
from modelyard.errors import BadInput
from modelyard.spec.data import Data


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What each column of the source is for."""

    id: str | None
    label: str
    features: tuple[str, ...]
    carried: tuple[str, ...]
    """Kept for slices, groups and times, but no input of the model."""

    @property
    def kept(self) -> tuple[str, ...]:
        """Columns whose values must be there."""
        return (self.label, *self.features, *self.carried)


@dataclass(kw_only=True)
class Survey:
    """One entry for each example of the source that is complete, in the source's order."""

    roles: Roles
    types: Mapping[str, str]
    rows: list[int] = field(default_factory=list)
    """Its place in the source."""
    ids: list[str] = field(default_factory=list)
    features: list[bytes] = field(default_factory=list)
    """Digest of its features."""
    contents: list[bytes] = field(default_factory=list)
    """Digest of features and label."""
    all: list[bytes] = field(default_factory=list)
    """Digest of all its columns."""
    labels: list[str] = field(default_factory=list)
    """Name of its class; empty for other kinds of labels."""
    keys: list[str] = field(default_factory=list)
    """Value of the column that splits stratify or group by."""
    times: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    layouts: dict[str, set[tuple[str, tuple[int, ...]]]] = field(default_factory=dict)
    """dtype and shape of one value, by column; several where they vary."""


def roles_of(spec: Data, source: Source, types: Mapping[str, str]) -> Roles:
    """What each column is for.

    Raises:
        BadInput: a column that the spec names is not there, or `id` is used for something else.
    """
    named = {
        "data.labels.column": spec.labels.column,
        "data.id": spec.id,
        "data.splits.stratify": spec.splits.stratify,
        "data.splits.group": spec.splits.group,
        "data.splits.time": spec.splits.time,
        **{f"data.features[{at}]": name for at, name in enumerate(spec.features or ())},
        **{f"data.checks.fill.{name}": name for name in spec.checks.fill},
        **{f"data.columns.{name}": name for name, column in spec.columns.items() if column.required},
    }
    for where, name in named.items():
        if name is not None and name not in types:
            raise BadInput(
                f"{where}: {source.name} has no column {name!r}", do=f"name one of {', '.join(sorted(types))}"
            )
    identity = spec.id or source.id
    label = spec.labels.column
    if identity == label:
        raise BadInput(f"data.id and data.labels.column are both {label!r}", do="name another column as id")
    apart = {spec.splits.group, spec.splits.time}
    features = spec.features or tuple(name for name in types if name not in {identity, label, *apart})
    if label in features or not features:
        what = "holds the label" if features else "is empty"
        raise BadInput(f"data.features {what}", do="name the columns that the model may see")
    carried = tuple(name for name in types if name not in {identity, label, *features})
    if "id" in (label, *features, *carried):
        raise BadInput(f"{source.name} has a column 'id', which names examples", do="set data.id: id, or rename it")
    return Roles(id=identity, label=label, features=tuple(features), carried=carried)


def survey(spec: Data, source: Source) -> Survey:
    """Read the whole source once.

    Raises:
        BadInput: a value is not what the spec says, or the source has no examples.
    """
    types = source.types()
    if not types:
        raise BadInput(f"{source.name} has no examples", do="name a source that has some")
    seen = Survey(roles=roles_of(spec, source, types), types=types)
    row = 0
    for chunk in source.chunks():
        _look(spec, source, seen, chunk, row)
        row += length(chunk)
    if row == 0:
        raise BadInput(f"{source.name} has no examples", do="name a source that has some")
    if not seen.rows:
        raise BadInput(f"All {row} examples of {source.name} lack a value", do="correct the source or data.checks")
    return seen


def cleaned(spec: Data, source: Source, roles: Roles, chunk: Columns, row: int) -> tuple[Columns, list[int], int]:
    """Complete examples of a chunk that begins at `row`, their places in the source, number of filled values."""
    where = partial(_at, source, row)
    kept, filled = fill(spec, {name: chunk[name] for name in roles.kept}, where)
    keep = np.flatnonzero(~incomplete(spec, kept, where))
    if roles.id is not None:
        kept["id"] = _ids(chunk[roles.id], where)
    return {name: take(values, keep) for name, values in kept.items()}, [row + at for at in keep.tolist()], filled


def _look(spec: Data, source: Source, seen: Survey, chunk: Columns, row: int) -> None:
    roles = seen.roles
    check_columns(spec, chunk, where=partial(_at, source, row))
    columns, rows, filled = cleaned(spec, source, roles, chunk, row)
    seen.counts.update(read=length(chunk), filled=filled, missing=length(chunk) - len(rows))
    seen.rows += rows
    label = columns[roles.label]
    check_kind(label, spec.labels)
    if spec.labels.kind == "class":
        names = label_names(label, spec.labels)
        _check_classes(spec, names, rows, source)
        columns[roles.label] = list(names)
        seen.labels += names
    features = example_digests(columns, roles.features)
    labels = example_digests(columns, [roles.label])
    seen.features += features
    seen.contents += [one + other for one, other in zip(features, labels, strict=True)]
    seen.all += example_digests(columns, roles.kept)
    seen.ids += columns["id"] if "id" in columns else [""] * len(rows)
    if by := spec.splits.stratify or spec.splits.group:
        seen.keys += [str(value) for value in columns[by]]
    if spec.splits.time:
        seen.times += _times(spec.splits.time, columns[spec.splits.time], rows, source)
    for name in (*roles.features, *roles.carried):
        values = columns[name]
        if isinstance(values, np.ndarray):
            seen.layouts.setdefault(name, set()).add((values.dtype.str, values.shape[1:]))
        elif seen.types[name] != "text":
            seen.layouts.setdefault(name, set()).update((value.dtype.str, value.shape) for value in values)


def _check_classes(spec: Data, names: list[str], rows: list[int], source: Source) -> None:
    if spec.labels.classes is None:
        return
    for name, row in zip(names, rows, strict=True):
        if name not in spec.labels.classes:
            raise BadInput(
                f"{source.where(row)}: {spec.labels.column} is {name!r}, not one of data.labels.classes",
                do=f"correct it, or add it to {', '.join(spec.labels.classes)}",
            )


def _ids(values: Values, where: partial[str]) -> Values:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind == "i":
        return [str(value) for value in values.tolist()]
    if not isinstance(values, list) or not all(isinstance(value, str | None) for value in values):
        raise BadInput("data.id names a column without names", do="name a column of text or whole numbers")
    for at, value in enumerate(values):
        if not value:
            raise BadInput(f"{where(at)}: the id is missing", do="give each example an id, or leave data.id out")
    return values


def _times(name: str, values: Values, rows: list[int], source: Source) -> list[float]:
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return [float(value) for value in values]
    times = []
    for value, row in zip(values, rows, strict=True):
        try:
            parsed = datetime.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise BadInput(
                f"{source.where(row)}: {name} is {value!r}, which is no time", do="write it like 2026-01-31T12:00:00"
            ) from None
        times.append((parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp())
    return times


def _at(source: Source, start: int, row: int) -> str:
    return source.where(start + row)
