"""The evaluation report: what a model answered on each example, so that any later comparison is paired."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from modelyard.record import record


@record
class Metric:
    """A value with its interval."""

    value: float
    low: float
    high: float
    better: Literal["higher", "lower"] = "higher"
    method: str = ""
    """How the interval was made."""


@record
class Bin:
    """One bin of the calibration curve: the answers whose score fell into [low, high)."""

    low: float
    high: float
    count: int
    score: float
    """Mean score."""
    accuracy: float


@record
class Summed:
    """A slice of which no example was kept."""

    examples: int
    values: Mapping[str, float]
    own: Mapping[str, tuple[float, ...]]
    """As that of a report."""


@record
class EvaluationReport:
    """One model on one split. Columns have one entry per example, in the order of `ids`."""

    model: str
    """Digest of the model folder."""
    variant: str
    split: str
    split_digest: str
    kind: Literal["class", "number", "text"]
    bytes: int | None = None
    """Size of the model folder; None where it was not kept."""
    classes: tuple[str, ...] = ()
    """Labels and predictions of kind class count in this list."""
    never_learnt: tuple[str, ...] = ()
    """Classes of the data that the model does not know: it is wrong on each of their examples."""
    examples: int
    metrics: Mapping[str, Metric]
    ids: tuple[str, ...]
    """Empty, as are all columns, where the examples were too many to keep; then all metrics are in `own`."""
    labels: tuple[int | float | str, ...]
    predictions: tuple[int | float | str, ...]
    scores: tuple[float, ...] = ()
    """Chance that the model gave to its answer; empty where it gives none."""
    probabilities: tuple[tuple[float, ...], ...] = ()
    """(N, classes); empty where the model gives none."""
    losses: tuple[float, ...] = ()
    """The recipe's loss of each example alone; empty where that makes no sense."""
    latencies_ms: tuple[float, ...] = ()
    """Of the first examples, each asked alone: preparation, model and prediction."""
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column → its value for each example."""
    summed: Mapping[str, Mapping[str, Summed]] = field(default_factory=dict)
    """Column → value → what its examples sum up to, where they were too many to keep."""
    own: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Metric → value in each of the resamples that every report on these examples shares. The recipe's own metrics; of
    examples that were not kept, ours too."""
    lower_is_better: tuple[str, ...] = ()
    """Those of `own` for which less is better."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """Rows: label; columns: prediction."""
    calibration: tuple[Bin, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""
