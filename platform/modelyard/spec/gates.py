"""The `gates` and `compress` sections."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

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


VariantName = Literal[
    "fp32", "onnx-int8", "onnx", "torchscript", "bf16", "distilled-int8", "distilled", "aot-int8", "onnx-int8-dynamic",
    "pruned-int8", "pruned", "clipped-int8", "aot-int8-dynamic", "aot", "int8-weights", "int4-weights", "sparse",
    "clustered",
]  # fmt: skip
"""`fp32` is the uncompressed model, measured always. Families that compile or train are tried with a time budget of two
minutes or more, `sparse` and `clustered` where they are named, distilled ones where there is a `student`."""


@record
class Compress:
    """The `compress` section: how much may be lost, and what is to be won."""

    max_drop: Mapping[str, float] = field(default_factory=dict)
    """For each metric, how much worse than the uncompressed model is allowed on the validation split. Held against the
    upper bound of the drop, not the point. Empty: nothing may be lost, so the uncompressed model serves."""
    objective: Literal["latency-p50", "latency-p99", "throughput", "size"] = "latency-p50"
    """What to make best within the budget: a lone request's latency, throughput at the serving batch size, or bytes."""
    time_budget: Duration = Duration("30s")
    """For building, evaluating and timing all variants; what is not ready by then is left out, with that reason."""
    variants: tuple[VariantName, ...] | None = None
    """Names to try; when absent all that can be built here in the time budget: those that compile with g++ or train
    a little take part from two minutes on."""
    student: Mapping[str, Any] | None = None
    """Arguments of the recipe, over `train.recipe.with`, for a smaller model that learns from the trained one."""
    confidence: float = 0.95
    """That a drop is at most its upper bound (one-sided)."""
