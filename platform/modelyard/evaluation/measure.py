"""From a report's columns to a metric with its interval, and to the paired difference of two reports."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.errors import BadInput
from modelyard.evaluation import influence, scores
from modelyard.evaluation.metrics import ALIASES, LATENCY_SHARES, METRICS, Cells, Definition, definition, unknown
from modelyard.evaluation.report import EvaluationReport, Metric
from modelyard.statistics import bootstrap
from modelyard.statistics.combined import Part, mover
from modelyard.statistics.intervals import Interval, order_ranks, quantile
from modelyard.statistics.paired import Discordant, discordant

Rows = npt.NDArray[np.intp]
OWN_RESAMPLES = 400
"""Resamples of the recipe's own metrics: each calls the user's function."""
NEVER_NEGATIVE = frozenset(influence.INFLUENCE) - {"loss", "r2"}
SIZE = "size"
"""Not measured on examples: bytes of the model folder."""


def available(report: EvaluationReport) -> tuple[str, ...]:
    """Names of the metrics that can be measured on a report."""
    there = {
        "predictions": bool(report.ids),
        "examples": bool(report.ids),
        "probabilities": bool(report.probabilities),
        "losses": bool(report.losses),
        "latencies": bool(report.latencies_ms),
    }
    ours = [name for name, one in METRICS.items() if report.kind in one.kinds and there[one.needs]]
    return (*ours, *report.own, *([SIZE] if report.bytes is not None else []))


def gives(report: EvaluationReport, name: str) -> bool:
    """Whether a metric can be measured on a report."""
    name = ALIASES.get(name, name)
    return name in available(report) or (":" in name and report.kind == "class" and bool(report.ids))


def measured(
    report: EvaluationReport,
    name: str,
    *,
    rows: Rows | None = None,
    confidence: float = 0.95,
) -> Metric:
    """A metric of a report, or of some of its examples.

    Raises:
        BadInput: the report cannot give this metric.
    """
    name = ALIASES.get(name, name)
    if name in report.own:
        return _own(report, name, rows, confidence)
    if name == SIZE and report.bytes is not None:
        size = float(report.bytes)
        return Metric(value=size, low=size, high=size, better="lower", method="exact")
    known = _known(report, name)
    (cells,), counts = _cells((report,), known, rows)
    value = float(known.measure(cells, counts[None, :])[0])
    if not math.isfinite(value):
        return _metric(value, Interval(-math.inf, math.inf), known.better, "not defined")
    if scored := scores.interval(report, name, rows, confidence):
        return _metric(value, scored[0], known.better, scored[1])
    if known.needs == "latencies":
        return _metric(value, _quantile_bounds(report, name, confidence), known.better, "order statistics")
    low, high = influence.interval(value, influence.INFLUENCE[name](cells), confidence)
    if name == "ece":
        low -= influence.calibration_excess(cells)
    if name in NEVER_NEGATIVE:
        low = max(0.0, low)
    return _metric(value, Interval(low, high), known.better, "skewed t")


def point(report: EvaluationReport, name: str) -> float:
    """A metric's value alone.

    Raises:
        BadInput: the report cannot give this metric.
    """
    name = ALIASES.get(name, name)
    if name in report.own:
        return report.metrics[name].value
    known = _known(report, name)
    cells, counts = _cells((report,), known, None)
    return float(known.measure(cells[0], counts[None, :])[0])


def _quantile_bounds(report: EvaluationReport, name: str, confidence: float) -> Interval:
    """Of a latency's percentile: exact, whatever its distribution."""
    values = sorted(report.latencies_ms)
    low, high = order_ranks(len(values), LATENCY_SHARES[name], confidence)
    return Interval(0.0 if low is None else values[low], math.inf if high is None else values[high])


def difference(
    candidate: EvaluationReport,
    champion: EvaluationReport,
    name: str,
    *,
    rows: Rows | None = None,
    confidence: float = 0.95,
) -> Metric:
    """Candidate minus champion on the same examples, signed so that more is better for every metric.

    Raises:
        BadInput: one of the reports cannot give this metric.
    """
    name = ALIASES.get(name, name)
    if name in candidate.own:
        return _own_difference(candidate, champion, name, rows, confidence)
    known = _known(candidate, name)
    _known(champion, name)
    if known.needs == "latencies":
        return apart(*(measured(report, name, confidence=confidence) for report in (candidate, champion)))
    (mine, theirs), counts = _cells((candidate, champion), known, rows)
    sign = 1.0 if known.better == "higher" else -1.0
    one, other = (float(known.measure(cells, counts[None, :])[0]) for cells in (mine, theirs))
    value = sign * (one - other)
    if not math.isfinite(value):
        return _metric(value, Interval(-math.inf, math.inf), "higher", "not defined")
    if scored := scores.paired(candidate, champion, name, rows, confidence):
        return _metric(value, scored[0], "higher", scored[1])
    moved = influence.INFLUENCE[name](mine) - influence.INFLUENCE[name](theirs)
    return _metric(value, influence.interval(value, sign * moved, confidence), "higher", "paired skewed t")


def apart(one: Metric, other: Metric) -> Metric:
    """One metric minus another of independent examples, signed so that more is better for the first.

    Of two proportions this is Newcombe's method 10.
    """
    sign = 1.0 if one.better == "higher" else -1.0
    bounds = mover([Part(sign, one.value, one.low, one.high), Part(-sign, other.value, other.low, other.high)])
    return _metric(sign * (one.value - other.value), bounds, "higher", "two intervals, combined")


def discordant_pairs(candidate: EvaluationReport, champion: EvaluationReport, rows: Rows | None = None) -> Discordant:
    """Examples that only one of two models answered rightly."""
    return discordant(scores.hits(candidate, rows).tolist(), scores.hits(champion, rows).tolist())


def variance(shown: Metric, examples: int, confidence: float) -> float:
    """Variance of one example's share in a metric, from its interval's width: for "how many would do"."""
    half = (shown.high - shown.low) / 2
    return examples * (half / quantile(confidence)) ** 2 if math.isfinite(half) else math.nan


def own_indices(examples: int) -> list[npt.NDArray[np.intp]]:
    """The resamples of the recipe's own metrics: the same for every report with so many examples."""
    rng = np.random.default_rng(examples)
    return [rng.integers(0, examples, examples) for _ in range(OWN_RESAMPLES)]


def _own(report: EvaluationReport, name: str, rows: Rows | None, confidence: float) -> Metric:
    if rows is not None:
        raise BadInput(
            f"{name} is the recipe's own metric and was not measured on slices", do="judge slices by a metric of ours"
        )
    value = report.metrics[name].value
    around = bootstrap.bounds(value, np.asarray(report.own[name]), confidence=confidence)
    return _metric(value, around, "lower" if name in report.lower_is_better else "higher", "bootstrap")


def _own_difference(
    candidate: EvaluationReport, champion: EvaluationReport, name: str, rows: Rows | None, confidence: float
) -> Metric:
    mine, theirs = _own(candidate, name, rows, confidence), _own(champion, name, rows, confidence)
    sign = 1.0 if mine.better == "higher" else -1.0
    values = sign * (np.asarray(candidate.own[name]) - np.asarray(champion.own[name]))
    value = sign * (mine.value - theirs.value)
    return _metric(value, bootstrap.bounds(value, values, confidence=confidence), "higher", "paired bootstrap")


def _known(report: EvaluationReport, name: str) -> Definition:
    """The definition of a metric that this report can give."""
    there = available(report)
    known = definition(name, classes=report.classes, known=there)
    if ":" in name and report.kind == "class" and report.ids:
        return known
    if name not in there:
        raise unknown(name, there)
    return known


def _cells(reports: Sequence[EvaluationReport], known: Definition, rows: Rows | None) -> tuple[list[Cells], Any]:
    """Columns over cells shared by all reports, and how many examples each cell holds (C,)."""
    pick: Callable[[Any], Any] = (
        (lambda values: values) if rows is None else (lambda values: [values[row] for row in rows])
    )
    first = reports[0]
    if known.needs == "latencies":
        column = np.asarray(first.latencies_ms)
        return [Cells(latencies=column)], np.ones(len(column), dtype=np.int64)
    labels = [pick(report.labels) for report in reports]
    predictions = [pick(report.predictions) for report in reports]
    if first.kind == "text":
        made = [Cells(labels=list(a), predictions=list(b)) for a, b in zip(labels, predictions, strict=True)]
        return [_with_losses(cell, report, pick) for cell, report in zip(made, reports, strict=True)], _ones(labels[0])
    if first.kind == "class" and known.needs == "predictions":
        table = np.array([labels[0], *predictions])
        unique, counts = np.unique(table, axis=1, return_counts=True)
        return [
            Cells(classes=len(report.classes), names=report.classes, labels=unique[0], predictions=unique[place + 1])
            for place, report in enumerate(reports)
        ], counts
    made = [
        Cells(
            classes=len(report.classes),
            names=report.classes,
            labels=np.asarray(labels[place]),
            predictions=np.asarray(predictions[place]),
            probabilities=np.asarray(pick(report.probabilities)) if report.probabilities else None,
        )
        for place, report in enumerate(reports)
    ]
    return [_with_losses(cell, report, pick) for cell, report in zip(made, reports, strict=True)], _ones(labels[0])


def _with_losses(cells: Cells, report: EvaluationReport, pick: Callable[[Any], Any]) -> Cells:
    if not report.losses:
        return cells
    return Cells(**{**cells.__dict__, "losses": np.asarray(pick(report.losses))})


def _ones(like: Sequence[Any]) -> Any:
    return np.ones(len(like), dtype=np.int64)


def _metric(value: float, bounds: Interval, better: Any, method: str) -> Metric:
    return Metric(value=value, low=bounds.low, high=bounds.high, better=better, method=method)
