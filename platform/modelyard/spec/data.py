"""The `data` section: where examples come from and what must be true of them."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from modelyard.record import record


@record
class Shards:
    """Shards that exist already, taken by object version, uncopied."""

    shards: str
    """URI of a folder that `prepare` wrote: a path or `s3://bucket/prefix`."""


@record
class Labels:
    """What is to be predicted."""

    column: str = "label"
    """Where it stands."""
    classes: tuple[str, ...] | None = None
    """The classes that may occur; found in the data when absent. Absent and numeric with `kind: number`: regression."""
    kind: Literal["class", "number", "text"] = "class"
    """A class, a number (regression), or a text."""


@record
class Column:
    """What must be true of a column."""

    type: Literal["number", "integer", "text", "boolean", "image", "array"] | None = None
    """Found in the data when absent."""
    min: float | None = None
    """Smallest value allowed."""
    max: float | None = None
    """Largest value allowed."""
    one_of: tuple[str, ...] | None = None
    """The values allowed."""
    required: bool = True
    """Whether it must be there."""


@record
class Splits:
    """How examples are dealt out. Shares sum to 1."""

    train: float = 0.7
    """Share to learn from."""
    validation: float = 0.15
    """Share to stop early, calibrate and choose by."""
    test: float = 0.15
    """Share to gate by."""
    stratify: str | None = None
    """Column whose distribution each split keeps."""
    group: str | None = None
    """Column whose equal values stay in one split."""
    time: str | None = None
    """Column to split by in order: the latest is the test split."""
    seed: int = 0
    """Another seed deals otherwise; the same one always deals alike."""


@record
class Checks:
    """What to do about examples that are not right. What is dropped or filled is counted in the data report."""

    duplicates: Literal["drop", "refuse", "keep"] = "drop"
    """Examples with equal features and label."""
    missing: Literal["drop", "fill", "refuse"] = "refuse"
    """Examples with an empty value."""
    fill: Mapping[str, float | str] = field(default_factory=dict)
    """Value for each column under `missing: fill`."""
    leakage: Literal["refuse", "drop", "keep"] = "refuse"
    """The same features in two splits; `drop` takes them from the earlier one, `keep` only counts them."""


@record
class Data:
    """The `data` section."""

    source: str | Shards
    """`bundled:digits`, a path, `s3://bucket/prefix`, or `{shards: URI}`."""
    format: Literal["csv", "parquet", "jsonl", "images", "npz"] | None = None
    """By the file's extension when absent."""
    id: str | None = None
    """Column that names an example; its content's digest when absent."""
    labels: Labels = Labels()
    features: tuple[str, ...] | None = None
    """Columns to keep; all but id and label when absent."""
    columns: Mapping[str, Column] = field(default_factory=dict)
    """Column → what must be true of it."""
    splits: Splits = Splits()
    checks: Checks = Checks()
    shard_size: int = 4096
    """Examples in one shard."""
