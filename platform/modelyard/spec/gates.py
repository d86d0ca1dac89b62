"""The `gates` and `compress` sections."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from modelyard.record import record
from modelyard.units import Duration, Quantity


@record
class Margin:
    """How much worse than the champion is still as good."""

    margin: float
    """In the metric's own unit: 0.02 is two points of accuracy."""


@record
class Anchor:
    """An older version that a candidate is held against, so that many small steps down do not add up."""

    version: str
    """Number of a registered version, as text: "3"."""
    margin: float
    """How much worse than it is still as good, in the metric's own unit."""


@record
class CrossValidation:
    """How often the recipe is trained anew, each time without the examples that it is then judged on."""

    folds: int = 5
    """Parts that the data is dealt into; each is held out once."""
    repeats: int = 1
    """Times that it is dealt anew."""


@record
class GateRule:
    """One rule, one line. Exactly one of the comparisons."""

    metric: str | None = None
    """One of ours, or of the project's `metrics`. Left out where the comparison names it."""
    at_least: float | None = None
    """The lower end of the metric's interval is at least this."""
    at_most: float | None = None
    """The upper end of the metric's interval is at most this."""
    not_worse_than_champion: Margin | None = None
    """Paired with the current champion on the same examples."""
    better_than_champion: bool | None = None
    """`true`: better than the champion, shown on the same examples."""
    not_worse_than_anchor: Anchor | None = None
    """Paired with an older version on the same examples."""
    max_overfit: float | None = None
    """The metric on the training split is better than on the validation split by at most this."""
    max_gap: float | None = None
    """Between any two values of the column `slice`, the metric differs by at most this."""
    max_calibration_error: float | None = None
    """The same as `{metric: ece, atMost: …}`."""
    max_latency: Duration | None = None
    """Of a lone example: `latency-p90` unless `metric` names `latency-p50`. Asked of what will serve only."""
    max_size: Quantity | None = None
    """Bytes of the model folder, like 5M. Asked of what will serve only."""
    no_regression_on: str | None = None
    """A golden set: a file of labelled examples that all that the champion answers rightly is answered rightly in."""
    slice: str | None = None
    """Column whose values are judged one by one; all must pass."""
    cross_validated: CrossValidation | None = None
    """Judge the recipe by models trained anew on parts of the data, where it is too small for one test split."""
    confidence: float = 0.95
    """Of the intervals."""


COMPARISONS = (
    "at_least", "at_most", "not_worse_than_champion", "better_than_champion", "not_worse_than_anchor", "max_overfit",
    "max_gap", "max_calibration_error", "max_latency", "max_size", "no_regression_on",
)  # fmt: skip
"""Fields of a rule of which exactly one is given."""
OF_WHAT_SERVES = ("max_latency", "max_size")
"""Comparisons that are not asked of the uncompressed model, which does not serve."""
NAMED_BY_COMPARISON = {"max_calibration_error": "ece", "max_latency": "latency-p90", "max_size": "size",
                       "no_regression_on": "regressions"}  # fmt: skip


def comparisons(rule: GateRule) -> tuple[str, ...]:
    """The comparisons that a rule has; a good one has one."""
    return tuple(name for name in COMPARISONS if getattr(rule, name) is not None)


def served_only(rule: GateRule) -> bool:
    """Whether a rule speaks of serving, and is not asked of the uncompressed model on its way."""
    return any(name in OF_WHAT_SERVES for name in comparisons(rule))


def metric_of(rule: GateRule) -> str:
    """What a rule speaks of; empty where it names nothing.

    >>> metric_of(GateRule(max_calibration_error=0.05)), metric_of(GateRule(metric="accuracy", at_least=0.9))
    ('ece', 'accuracy')
    """
    return rule.metric or next((NAMED_BY_COMPARISON.get(name, "") for name in comparisons(rule)), "")


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
