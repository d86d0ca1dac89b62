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


@record
class GateRule:
    """One rule, one line. Exactly one of the comparisons."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    not_worse_than_champion: Margin | None = None
    better_than_champion: bool | None = None
    slice: str | None = None
    """Column whose values are judged one by one; all must pass."""
    confidence: float = 0.95


@record
class Compress:
    """The `compress` section: the budget and what to make small."""

    max_drop: Mapping[str, float] = field(default_factory=dict)
    """For each metric, how much worse than the uncompressed model is allowed (upper bound of the drop)."""
    objective: Literal["latency-p50", "latency-p99", "throughput", "size"] = "latency-p50"
    time_budget: Duration = Duration("30s")
    variants: tuple[str, ...] | None = None
    """Names to try; all that can be built here when absent."""
    confidence: float = 0.95
