"""The names of metrics: what a gate, a budget or early stopping may speak of, and which way is better.

The table stands in `spec`, below everything that computes, so that a wrong name is refused before any work.
A recipe's own metrics are declared in the project (`metrics: {within-one: {better: higher}}`): nobody else knows which
way is better.
"""

import re
from collections.abc import Mapping
from typing import Literal

from modelyard.record import record

Better = Literal["higher", "lower"]
Kind = Literal["class", "number", "text"]


@record
class OwnMetric:
    """A metric that the recipe's `metrics()` gives, under the same name."""

    better: Better
    """Which way is better."""


@record
class MetricKind:
    """What is known of a metric without computing it."""

    better: Better
    labels: tuple[Kind, ...]
    """Kinds of labels it is defined for."""
    bounded: bool = False
    """Whether it lies between 0 and 1."""


def _higher(*labels: Kind) -> MetricKind:
    return MetricKind(better="higher", labels=labels, bounded=True)


def _lower(*labels: Kind) -> MetricKind:
    return MetricKind(better="lower", labels=labels)


METRICS: Mapping[str, MetricKind] = {
    "accuracy": _higher("class", "text"),
    "balanced-accuracy": _higher("class"),
    **{name: _higher("class") for name in ("precision", "recall", "f1")},
    **{
        f"{name}-{how}": _higher("class")
        for name in ("precision", "recall", "f1")
        for how in ("macro", "micro", "weighted")
    },
    "auroc": _higher("class"),
    "average-precision": _higher("class"),
    "log-loss": _lower("class"),
    "brier": _lower("class"),
    "ece": MetricKind(better="lower", labels=("class",), bounded=True),
    "mae": _lower("number"),
    "mse": _lower("number"),
    "rmse": _lower("number"),
    "r2": MetricKind(better="higher", labels=("number",)),
    "word-error-rate": _lower("text"),
    "character-error-rate": _lower("text"),
    "perplexity": _lower("text"),
    "loss": _lower("class", "number", "text"),
    "latency-p50": _lower("class", "number", "text"),
    "latency-p90": _lower("class", "number", "text"),
}
"""`ece` is the expected calibration error, `loss` the recipe's own and `perplexity` exp of its mean, latencies are in
milliseconds for one example."""

_PER_CLASS = re.compile(r"(precision|recall|f1):(.+)")


def metric_kind(name: str, own: Mapping[str, OwnMetric] | None = None) -> MetricKind | None:
    """What is known of the metric called `name`; None when nobody knows it.

    >>> metric_kind("recall:cat").better, metric_kind("acuracy")
    ('higher', None)
    """
    if own and name in own:
        return MetricKind(better=own[name].better, labels=("class", "number", "text"))
    per_class = _PER_CLASS.fullmatch(name)
    return METRICS.get(per_class[1] if per_class else name)
