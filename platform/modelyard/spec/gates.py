"""The `gates` and `compress` sections."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from modelyard.record import record
from modelyard.units import Duration


@record
class Margin:
    """How much worse than the champion is still as good."""

    margin: float
    """In the metric's own unit: 0.02 is two points of accuracy."""


@record
class GateRule:
    """One rule, one line. Exactly one of the comparisons."""

    metric: str
    """One of ours, or of the project's `metrics`."""
    at_least: float | None = None
    """The lower end of the metric's interval is at least this."""
    at_most: float | None = None
    """The upper end of the metric's interval is at most this."""
    not_worse_than_champion: Margin | None = None
    """Paired with the current champion on the same examples."""
    better_than_champion: bool | None = None
    """`true`: better than the champion, shown on the same examples."""
    slice: str | None = None
    """Column whose values are judged one by one; all must pass."""
    confidence: float = 0.95
    """Of the intervals."""


@record
class Compress:
    """The `compress` section: the budget and what to make small."""

    max_drop: Mapping[str, float] = field(default_factory=dict)
    """For each metric, how much worse than the uncompressed model is allowed (upper bound of the drop)."""
    objective: Literal["latency-p50", "latency-p99", "throughput", "size"] = "latency-p50"
    """What to make best within the budget."""
    time_budget: Duration = Duration("30s")
    """For the search; it keeps what it has."""
    variants: tuple[str, ...] | None = None
    """Names to try; all that can be built here when absent."""
    confidence: float = 0.95
    """Of the intervals of `maxDrop`."""
