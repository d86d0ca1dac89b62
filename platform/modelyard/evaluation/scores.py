"""Intervals of metrics that are proportions, or made of some: by score methods, which have a width at 0 and 1 too.

A bootstrap of 50 right answers out of 50 says [1, 1], as if no other answer could ever be wrong.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.evaluation.report import EvaluationReport
from modelyard.statistics.combined import SHARED_BY_TWO, Part, Share, auroc_interval, f1_interval, mover, weighted
from modelyard.statistics.intervals import Interval, tango, wilson

Rows = npt.NDArray[np.intp]


class _Name(NamedTuple):
    """A metric's name, taken apart."""

    which: str
    """accuracy, balanced, precision, recall, f1."""
    how: str | int
    """macro, weighted, or the index of one class."""


class _Class(NamedTuple):
    """What is counted of one class."""

    hits: int
    labelled: int
    predicted: int

    @property
    def touched(self) -> int:
        """Examples that are of the class, or were answered so."""
        return self.labelled + self.predicted - self.hits


def interval(report: EvaluationReport, name: str, rows: Rows | None, confidence: float) -> tuple[Interval, str] | None:
    """A metric's score interval and its method, where it has one."""
    meant = _meant(name, report)
    if meant is None:
        return None
    if meant.which == "accuracy":
        right = hits(report, rows)
        return wilson(int(right.sum()), len(right), confidence), "Wilson"
    counts = _counts(report, rows)
    if isinstance(meant.how, int):
        one = counts[meant.how]
        if meant.which == "f1":
            return f1_interval(one.hits, one.touched, confidence), "Wilson, of F*"
        total = one.labelled if meant.which == "recall" else one.predicted
        return wilson(one.hits, total, confidence), "Wilson"
    if meant.which == "f1":
        return None  # its classes share their wrong answers; see `at_the_edge`
    shares = [
        Share(weight, one.hits, one.predicted if meant.which == "precision" else one.labelled)
        for weight, one in _weighted(meant, counts)
    ]
    # 0 out of 0 is 0 by convention, whatever is sampled
    return weighted([share for share in shares if share.total], confidence), "score"


def paired(
    candidate: EvaluationReport, other: EvaluationReport, name: str, rows: Rows | None, confidence: float
) -> tuple[Interval, str] | None:
    """Score interval for the difference of two reports on the same examples, where there is one."""
    meant = _meant(name, candidate)
    if meant is None:
        return None
    mine, theirs = hits(candidate, rows), hits(other, rows)
    if meant.which == "accuracy":
        return _tango(mine, theirs, confidence), "Tango"
    if meant.which not in {"recall", "balanced"}:
        return None
    labels = _picked(candidate.labels, rows)
    if isinstance(meant.how, int):
        there = labels == meant.how
        return _tango(mine[there], theirs[there], confidence), "Tango"
    counts = (*_counts(candidate, rows), *_counts(other, rows))
    if meant.which == "recall" and any(one.predicted and not one.labelled for one in counts):
        return None  # a class that was only answered counts in one model's mean and not in the other's
    classes = np.unique(labels)
    parts = []
    for which in classes:
        there = labels == which
        bounds = _tango(mine[there], theirs[there], confidence)
        parts.append(Part(1 / len(classes), float(mine[there].mean() - theirs[there].mean()), *bounds))
    return mover(parts), "Tango, combined"


def at_the_edge(
    report: EvaluationReport, name: str, value: float, rows: Rows | None, confidence: float
) -> Interval | None:
    """An interval with a width where a bootstrap has none, since all examples agree; None where none is known."""
    meant = _meant(name, report)
    if meant is not None and meant.which == "f1":
        return mover(_f1_parts(meant, _counts(report, rows), confidence), widen=SHARED_BY_TWO)
    ranked = name == "auroc" or (name == "average-precision" and value == 1)
    if not ranked or report.kind != "class":
        return None
    labels = _picked(report.labels, rows)
    found = []
    for which in [1] if len(report.classes) == 2 else np.unique(labels).tolist():
        count = int((labels == which).sum())
        if name == "auroc":
            found.append(auroc_interval(value, count, len(labels) - count, confidence))
        else:
            found.append(wilson(count, count, confidence))
    return Interval(*np.mean(found, axis=0).tolist()) if found else None


def unseen(candidate: EvaluationReport, name: str, rows: Rows | None, confidence: float) -> Interval | None:
    """How far a paired difference may lie from its value where no resample gave another one.

    It is what would not have been seen if the two reports disagreed in another way on a few examples.
    """
    meant = _meant(name, candidate)
    if meant is None or meant.which not in ("f1", "precision"):
        return None
    parts = []
    for weight, one in _weighted(meant, _counts(candidate, rows)):
        total = one.touched if meant.which == "f1" else one.predicted
        half = tango(0, 0, total, confidence).high
        if meant.which == "f1":  # dF1/dF* = 2 / (1 + F*)²
            half *= 2 / (1 + (one.hits / total if total else 0.0)) ** 2
        parts.append(Part(weight, 0.0, -half, half))
    return mover(parts, widen=SHARED_BY_TWO)


def hits(report: EvaluationReport, rows: Rows | None = None) -> npt.NDArray[np.bool_]:
    """Whether each example was answered rightly (N,)."""
    right: npt.NDArray[np.bool_] = np.equal(_picked(report.labels, rows), _picked(report.predictions, rows))
    return right.astype(bool)


def _picked(values: Sequence[Any], rows: Rows | None) -> npt.NDArray[Any]:
    kept = np.asarray(values, dtype=object if values and isinstance(values[0], str) else None)
    return kept if rows is None else kept[rows]


def _meant(name: str, report: EvaluationReport) -> _Name | None:
    """None for what is no proportion."""
    if name == "accuracy":
        return _Name("accuracy", "macro")
    if name == "balanced-accuracy":
        return _Name("balanced", "macro")
    averaged, _, of_class = name.partition(":")
    which, _, how = averaged.partition("-")
    if which not in ("precision", "recall", "f1"):
        return None
    if of_class:
        return _Name(which, report.classes.index(of_class))
    if averaged == "recall-weighted" or how == "micro":  # with one label for each example they are the accuracy
        return _Name("accuracy", "macro")
    return _Name(which, how or (1 if len(report.classes) == 2 else "macro"))


def _counts(report: EvaluationReport, rows: Rows | None) -> list[_Class]:
    labels, predictions, size = _picked(report.labels, rows), _picked(report.predictions, rows), len(report.classes)
    right = np.bincount(labels[labels == predictions], minlength=size)
    both = zip(right, np.bincount(labels, minlength=size), np.bincount(predictions, minlength=size), strict=True)
    return [_Class(*map(int, one)) for one in both]


def _weighted(meant: _Name, counts: Sequence[_Class]) -> list[tuple[float, _Class]]:
    """The classes that a mean is over, with their weights."""
    if isinstance(meant.how, int):
        return [(1.0, counts[meant.how])]
    if meant.how == "weighted":
        total = sum(one.labelled for one in counts)
        return [(one.labelled / total, one) for one in counts if one.labelled]
    there = [one for one in counts if one.labelled or (one.predicted and meant.which != "balanced")]
    return [(1 / len(there), one) for one in there]


def _f1_parts(meant: _Name, counts: Sequence[_Class], confidence: float) -> list[Part]:
    return [
        Part(weight, 2 * one.hits / (one.touched + one.hits), *f1_interval(one.hits, one.touched, confidence))
        for weight, one in _weighted(meant, counts)
    ]


def _tango(mine: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_], confidence: float) -> Interval:
    return tango(int((mine & ~theirs).sum()), int((theirs & ~mine).sum()), len(mine), confidence)
