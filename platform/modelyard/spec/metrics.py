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


_CLASS: tuple[Kind, ...] = ("class",)
_NUMBER: tuple[Kind, ...] = ("number",)
_TEXT: tuple[Kind, ...] = ("text",)
_shares = ("accuracy", "precision", "recall", "f1", "auroc", "average-precision")

METRICS: Mapping[str, MetricKind] = {
    **{name: MetricKind(better="higher", labels=_CLASS, bounded=True) for name in _shares},
    **{
        f"{name}-{average}": MetricKind(better="higher", labels=_CLASS, bounded=True)
        for name in ("precision", "recall", "f1")
        for average in ("micro", "macro", "weighted")
    },
    "log-loss": MetricKind(better="lower", labels=_CLASS),
    "calibration-error": MetricKind(better="lower", labels=_CLASS, bounded=True),
    "brier": MetricKind(better="lower", labels=_CLASS),
    "mae": MetricKind(better="lower", labels=_NUMBER),
    "rmse": MetricKind(better="lower", labels=_NUMBER),
    "r2": MetricKind(better="higher", labels=_NUMBER),
    "word-error-rate": MetricKind(better="lower", labels=_TEXT),
    "character-error-rate": MetricKind(better="lower", labels=_TEXT),
    "perplexity": MetricKind(better="lower", labels=_TEXT),
    "loss": MetricKind(better="lower", labels=("class", "number", "text")),
}
"""`precision`, `recall` and `f1` alone are the macro average. `loss` is the recipe's own."""

_PER_CLASS = re.compile(r"(precision|recall|f1)\[(.+)\]")


def metric_kind(name: str, own: Mapping[str, OwnMetric] | None = None) -> MetricKind | None:
    """What is known of the metric called `name`; None when nobody knows it.

    >>> metric_kind("recall[cat]").better, metric_kind("acuracy")
    ('higher', None)
    """
    if own and name in own:
        return MetricKind(better=own[name].better, labels=("class", "number", "text"))
    per_class = _PER_CLASS.fullmatch(name)
    return METRICS.get(per_class[1] if per_class else name)
