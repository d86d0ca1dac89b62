"""Two reports on the same examples, brought into one order of examples and one list of classes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from modelyard.errors import BadInput
from modelyard.evaluation.report import EvaluationReport


def aligned(candidate: EvaluationReport, champion: EvaluationReport) -> EvaluationReport:
    """The champion's report with its examples in the candidate's order, and one list of classes for both.

    Raises:
        BadInput: the reports are on different examples or labels; the message names the first.
    """
    if (not candidate.ids or not champion.ids) and candidate.split_digest != champion.split_digest:
        raise BadInput("candidate and champion were judged on different splits", do="evaluate both on the same, now")
    place = {name: at for at, name in enumerate(champion.ids)}
    if place.keys() != set(candidate.ids) or len(champion.ids) != len(candidate.ids):
        odd = sorted(place.keys() ^ set(candidate.ids))
        raise BadInput(
            f"candidate and champion were judged on different examples ({len(odd)} differ"
            + (f", such as {odd[0]!r})" if odd else ")"),
            do="evaluate both on the same split, now",
        )
    if candidate.kind != champion.kind:
        raise BadInput(
            f"a label of kind {candidate.kind} against {champion.kind}", do="evaluate both on the same split"
        )
    order = [place[name] for name in candidate.ids]
    classes = (*candidate.classes, *(name for name in champion.classes if name not in candidate.classes))
    moved = with_classes(_reordered(champion, order), classes)
    for name, mine, theirs in zip(candidate.ids, candidate.labels, moved.labels, strict=True):
        if mine != theirs:
            raise BadInput(
                f"example {name!r} has another label in the champion's report",
                do="evaluate both on the same split, now",
            )
    return moved


def refuse_unlearnt(against: str, classes: Sequence[str]) -> None:
    """Refuse a comparison with a version that is wrong on classes because it never learnt them: that is no merit.

    Raises:
        BadInput: there are such classes.
    """
    if classes:
        raise BadInput(
            f"{against} never learnt {', '.join(classes)}, so that the candidate cannot be compared with it",
            do="leave the comparison out for the version that adds a class (atLeast can judge it), then put it back",
        )


def _reordered(report: EvaluationReport, order: Sequence[int]) -> EvaluationReport:
    """The same report with its examples in another order. Latencies and the recipe's own resamples stay as they are."""
    if list(order) == list(range(len(order))):
        return report
    changes: dict[str, Any] = {
        column: tuple(values[at] for at in order)
        for column in ("ids", "labels", "predictions", "scores", "probabilities", "losses")
        if (values := getattr(report, column))
    }
    changes["slices"] = {name: tuple(values[at] for at in order) for name, values in report.slices.items()}
    return replace(report, **changes, own={})


def with_classes(report: EvaluationReport, classes: tuple[str, ...]) -> EvaluationReport:
    """The same report with its classes counted in a longer or reordered list."""
    if report.kind != "class" or report.classes == classes:
        return report
    moved = [classes.index(name) for name in report.classes]
    probabilities = []
    for row in report.probabilities:
        placed = [0.0] * len(classes)
        for at, chance in zip(moved, row, strict=True):
            placed[at] = chance
        probabilities.append(tuple(placed))
    return replace(
        report,
        classes=classes,
        labels=tuple(moved[int(label)] for label in report.labels),
        predictions=tuple(moved[int(prediction)] for prediction in report.predictions),
        probabilities=tuple(probabilities),
    )
