"""Intervals of metrics that are proportions or rankings, or made of some: by score methods, with a width at 0 and 1.

A bootstrap of 50 right answers out of 50 says [1, 1], as if no other answer could ever be wrong.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.evaluation import parts
from modelyard.evaluation.report import EvaluationReport
from modelyard.statistics.combined import Part, Share, f1_interval, mover, weighted
from modelyard.statistics.intervals import Interval, tango, wilson

Rows = npt.NDArray[np.intp]
RANKINGS = ("auroc", "average-precision")


class _Name(NamedTuple):
    """A metric's name, taken apart."""

    which: str
    """accuracy, balanced, precision, recall, f1, auroc, average-precision."""
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
    if meant.which in RANKINGS or (meant.which == "f1" and not isinstance(meant.how, int)):
        bounds = parts.together(_parts(report, meant, rows, confidence))
        return Interval(max(0.0, bounds.low), min(1.0, bounds.high)), "score, combined"
    counts = _counts(report, rows)
    if isinstance(meant.how, int):
        one = counts[meant.how]
        if meant.which == "f1":
            return f1_interval(one.hits, one.touched, confidence), "Wilson, of F*"
        total = one.labelled if meant.which == "recall" else one.predicted
        return wilson(one.hits, total, confidence), "Wilson"
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
    counts = (*_counts(candidate, rows), *_counts(other, rows))
    # a class that was only answered counts in one model's mean of recalls and not in the other's
    strange = meant.how == "macro" and any(one.predicted and not one.labelled for one in counts)
    if meant.which not in {"recall", "balanced"} or (meant.which == "recall" and strange):
        both = (*_parts(candidate, meant, rows, confidence), *_parts(other, meant, rows, confidence, sign=-1.0))
        return parts.together(both), "paired scores, combined"
    labels = _picked(candidate.labels, rows)
    if isinstance(meant.how, int):
        there = labels == meant.how
        return _tango(mine[there], theirs[there], confidence), "Tango"
    classes = np.unique(labels)
    each = []
    for which in classes:
        there = labels == which
        bounds = _tango(mine[there], theirs[there], confidence)
        each.append(Part(1 / len(classes), float(mine[there].mean() - theirs[there].mean()), *bounds))
    return mover(each), "Tango, combined"


def hits(report: EvaluationReport, rows: Rows | None = None) -> npt.NDArray[np.bool_]:
    """Whether each example was answered rightly (N,)."""
    right: npt.NDArray[np.bool_] = np.equal(_picked(report.labels, rows), _picked(report.predictions, rows))
    return right.astype(bool)


def _picked(values: Sequence[Any], rows: Rows | None) -> npt.NDArray[Any]:
    kept = np.asarray(values, dtype=object if values and isinstance(values[0], str) else None)
    return kept if rows is None else kept[rows]


def _meant(name: str, report: EvaluationReport) -> _Name | None:
    """None for what is no proportion."""
    if name in ("accuracy", "balanced-accuracy"):
        return _Name(name.removesuffix("-accuracy"), "macro")
    if name in RANKINGS and report.kind == "class":
        return _Name(name, 1 if len(report.classes) == 2 else "macro")
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
    return [(weight, counts[which]) for weight, which in _weighted_classes(meant, counts)]


def _weighted_classes(meant: _Name, counts: Sequence[_Class]) -> list[tuple[float, int]]:
    if isinstance(meant.how, int):
        return [(1.0, meant.how)]
    if meant.how == "weighted":
        total = sum(one.labelled for one in counts)
        return [(one.labelled / total, which) for which, one in enumerate(counts) if one.labelled]
    there = [which for which, one in enumerate(counts) if one.labelled or (one.predicted and meant.which != "balanced")]
    return [(1 / len(there), which) for which in there]


def _parts(
    report: EvaluationReport, meant: _Name, rows: Rows | None, confidence: float, *, sign: float = 1.0
) -> Iterator[parts.Weighed]:
    """The single classes' parts of a metric, with their weights."""
    labels, predictions = _picked(report.labels, rows), _picked(report.predictions, rows)
    if meant.which in RANKINGS:
        classes = [meant.how] if isinstance(meant.how, int) else range(len(report.classes))
        ranked = parts.auroc if meant.which == "auroc" else parts.average_precision
        chances = _picked(report.probabilities, rows)
        there = [which for which in classes if 0 < int((labels == which).sum()) < len(labels)]
        for which in there:
            yield parts.Weighed(sign / len(there), ranked(labels == which, chances[:, which], confidence))
        return
    for weight, which in _weighted_classes(meant, _counts(report, rows)):
        labelled, answered = labels == which, predictions == which
        if meant.which == "f1":
            part = parts.f1(labelled, answered, confidence)
        else:
            part = parts.proportion(labelled & answered, labelled if meant.which == "recall" else answered, confidence)
        yield parts.Weighed(sign * weight, part)


def _tango(mine: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_], confidence: float) -> Interval:
    return tango(int((mine & ~theirs).sum()), int((theirs & ~mine).sum()), len(mine), confidence)
