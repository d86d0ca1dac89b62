"""The metrics by name: each a function of weights, so that point, interval and paired comparison share one definition.

`weights` (R, C) says how often each of C cells counts in each of R resamples. Metrics of the confusion matrix need
only (label, prediction) per cell, so equal examples are one cell; the others have a cell for each example.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelyard.errors import BadInput

Floats = npt.NDArray[np.floating[Any]]
CALIBRATION_BINS = 15
SMALLEST = 1e-7
LATENCY_SHARES = {"latency-p50": 0.5, "latency-p90": 0.9}
"""Of the answers, those that are as quick."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Columns over C cells."""

    classes: int = 0
    labels: Any = None
    """(C,) class indices, numbers, or a list of texts."""
    predictions: Any = None
    probabilities: Floats | None = None
    """(C, classes)."""
    losses: Floats | None = None
    latencies: Floats | None = None
    names: tuple[str, ...] = ()
    """Of the classes."""


Measure = Callable[[Cells, Any], Floats]
Kind = Literal["class", "number", "text"]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A metric."""

    measure: Measure
    better: Literal["higher", "lower"] = "higher"
    kinds: tuple[Kind, ...] = ("class",)
    needs: Literal["predictions", "probabilities", "losses", "latencies", "examples"] = "predictions"
    """`predictions`: equal (label, prediction) may be one cell; all others want one cell for each example."""


def _ratio(above: Any, below: Any) -> Floats:
    """Quotients; 0/0 is 0, as scikit-learn has it."""
    nothing = np.zeros(np.broadcast(above, below).shape)
    quotients: Floats = np.divide(above, below, out=nothing, where=np.asarray(below) != 0)
    return quotients


def _mean_of(values: Any, weights: Any) -> Floats:
    return _ratio(weights @ np.asarray(values, dtype=float), weights.sum(axis=1))


def confusion(cells: Cells, weights: Any) -> Floats:
    """Confusion matrices (R, label, prediction)."""
    size = cells.classes
    place = np.asarray(cells.labels) * size + np.asarray(cells.predictions)
    onto = np.zeros((len(place), size * size))
    onto[np.arange(len(place)), place] = 1
    matrices: Floats = np.asarray(weights @ onto)
    return matrices.reshape(-1, size, size)


def _accuracy(cells: Cells, weights: Any) -> Floats:
    if isinstance(cells.labels, list):
        return _mean_of([a == b for a, b in zip(cells.labels, cells.predictions, strict=True)], weights)
    return _mean_of(np.asarray(cells.labels) == np.asarray(cells.predictions), weights)


def _per_class(cells: Cells, weights: Any) -> dict[str, Floats]:
    """Precision, recall, F1 and number of labels, each (R, classes)."""
    matrix = confusion(cells, weights)
    hit = np.einsum("rcc->rc", matrix)
    labelled, predicted = matrix.sum(axis=2), matrix.sum(axis=1)
    return {
        "precision": _ratio(hit, predicted),
        "recall": _ratio(hit, labelled),
        "f1": _ratio(2 * hit, labelled + predicted),
        "support": labelled,
        "present": (labelled + predicted) > 0,
    }


def _averaged(which: str, how: str) -> Measure:
    def measure(cells: Cells, weights: Any) -> Floats:
        if how == "micro":  # of one label per example: precision, recall and F1 are all the accuracy
            return _accuracy(cells, weights)
        parts = _per_class(cells, weights)
        if how == "weighted":
            return _ratio((parts[which] * parts["support"]).sum(axis=1), parts["support"].sum(axis=1))
        if how == "macro":
            return _ratio((parts[which] * parts["present"]).sum(axis=1), parts["present"].sum(axis=1))
        return parts[which][:, cells.names.index(how)]

    return measure


def _plain(which: str) -> Measure:
    """Of the second class where there are two (the positive one), else macro."""

    def measure(cells: Cells, weights: Any) -> Floats:
        return (
            _per_class(cells, weights)[which][:, 1] if cells.classes == 2 else _averaged(which, "macro")(cells, weights)
        )

    return measure


def _balanced(cells: Cells, weights: Any) -> Floats:
    parts = _per_class(cells, weights)
    there = parts["support"] > 0
    return _ratio((parts["recall"] * there).sum(axis=1), there.sum(axis=1))


def _ranked(one: Callable[[Any, Any, Any], Floats]) -> Measure:
    """Lift a ranking metric: of two classes the second is positive; of more, each against the rest, averaged."""

    def measure(cells: Cells, weights: Any) -> Floats:
        assert cells.probabilities is not None
        labels = np.asarray(cells.labels)
        if cells.classes == 2:
            return one(labels == 1, cells.probabilities[:, 1], weights)
        there = [which for which in range(cells.classes) if 0 < np.sum(labels == which) < len(labels)]
        if not there:
            return np.full(len(weights), np.nan)
        return np.mean([one(labels == which, cells.probabilities[:, which], weights) for which in there], axis=0)  # type: ignore[no-any-return]

    return measure


def _grouped(positive: Any, scores: Any, weights: Any) -> tuple[Floats, Floats]:
    """Weights of positives and negatives at each distinct score, highest first: (R, distinct) each."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    sorted_weights = weights[:, order].astype(float)
    positives = np.add.reduceat(sorted_weights * positive[order], starts, axis=1)
    return positives, np.add.reduceat(sorted_weights, starts, axis=1) - positives


def auroc(positive: Any, scores: Any, weights: Any) -> Floats:
    """Area under the ROC curve (R,) of cells that are positive or not (C,), by their scores (C,); ties count half."""
    positives, negatives = _grouped(positive, scores, weights)
    above = np.cumsum(positives, axis=1) - positives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.where(pairs > 0, _ratio((above * negatives).sum(axis=1), pairs), np.nan)


def average_precision(positive: Any, scores: Any, weights: Any) -> Floats:
    """Mean precision at each positive (R,); arguments as for `auroc`."""
    positives, negatives = _grouped(positive, scores, weights)
    found = np.cumsum(positives, axis=1)
    precision = _ratio(found, found + np.cumsum(negatives, axis=1))
    total = positives.sum(axis=1)
    return np.where(total > 0, _ratio((precision * positives).sum(axis=1), total), np.nan)


def _log_loss(cells: Cells, weights: Any) -> Floats:
    assert cells.probabilities is not None
    given = cells.probabilities[np.arange(len(cells.probabilities)), np.asarray(cells.labels)]
    return _mean_of(-np.log(np.clip(given, SMALLEST, 1)), weights)


def _brier(cells: Cells, weights: Any) -> Floats:
    """Mean squared distance to the label's one-hot vector (0 best, 2 worst), as Brier (1950) has it."""
    assert cells.probabilities is not None
    wanted = np.zeros_like(cells.probabilities)
    wanted[np.arange(len(wanted)), np.asarray(cells.labels)] = 1
    return _mean_of(((cells.probabilities - wanted) ** 2).sum(axis=1), weights)


def calibration_place(scores: Any) -> npt.NDArray[np.intp]:
    """Bin of each score."""
    place: npt.NDArray[np.intp] = np.ceil(np.asarray(scores) * CALIBRATION_BINS).astype(np.intp) - 1
    return np.clip(place, 0, CALIBRATION_BINS - 1)


def _ece(cells: Cells, weights: Any) -> Floats:
    """Expected calibration error over 15 equal bins of the winner's score (Guo et al. 2017)."""
    assert cells.probabilities is not None
    scores = cells.probabilities.max(axis=1)
    right = cells.probabilities.argmax(axis=1) == np.asarray(cells.labels)
    onto = np.zeros((len(scores), CALIBRATION_BINS))
    onto[np.arange(len(scores)), calibration_place(scores)] = right - scores
    return _ratio(np.abs(weights @ onto).sum(axis=1), weights.sum(axis=1))


def _residual(power: int) -> Measure:
    def measure(cells: Cells, weights: Any) -> Floats:
        away = np.abs(np.asarray(cells.predictions, dtype=float) - np.asarray(cells.labels, dtype=float))
        return _mean_of(away**power, weights)

    return measure


def _rmse(cells: Cells, weights: Any) -> Floats:
    return np.sqrt(_residual(2)(cells, weights))


def _r2(cells: Cells, weights: Any) -> Floats:
    labels = np.asarray(cells.labels, dtype=float)
    centred = labels - labels.mean()
    spread = _mean_of(centred**2, weights) - _mean_of(centred, weights) ** 2
    return np.where(spread > 0, 1 - _ratio(_residual(2)(cells, weights), spread), np.nan)


def _losses(cells: Cells, weights: Any) -> Floats:
    return _mean_of(cells.losses, weights)


def _perplexity(cells: Cells, weights: Any) -> Floats:
    """Exp of the mean loss: of a recipe whose loss is the mean negative log likelihood of an example's tokens."""
    return np.exp(_losses(cells, weights))


def _latency(share: float) -> Measure:
    def measure(cells: Cells, weights: Any) -> Floats:
        assert cells.latencies is not None
        order = np.argsort(cells.latencies, kind="stable")
        reached = np.cumsum(weights[:, order], axis=1)
        place = (reached >= share * reached[:, -1:]).argmax(axis=1)
        return cells.latencies[order][place]  # type: ignore[no-any-return]

    return measure


def edits(label: Any, prediction: Any) -> int:
    """Levenshtein distance of two sequences."""
    row = list(range(len(prediction) + 1))
    for count, wanted in enumerate(label, 1):
        before, row[0] = row[0], count
        for at, given in enumerate(prediction, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (wanted != given))
    return row[-1]


def _error_rate(split: Callable[[str], Any]) -> Measure:
    """Edits per word or character of the label, over all examples."""

    def measure(cells: Cells, weights: Any) -> Floats:
        pairs = [(split(str(a)), split(str(b))) for a, b in zip(cells.labels, cells.predictions, strict=True)]
        distances = np.array([edits(a, b) for a, b in pairs], dtype=float)
        return _ratio(weights @ distances, weights @ np.array([len(a) for a, _ in pairs], dtype=float))

    return measure


def _named() -> dict[str, Definition]:
    averaged = {
        f"{which}-{how}": Definition(measure=_averaged(which, how))
        for which in ("precision", "recall", "f1")
        for how in ("macro", "micro", "weighted")
    }
    plain = {which: Definition(measure=_plain(which)) for which in ("precision", "recall", "f1")}
    everywhere: tuple[Kind, ...] = ("class", "number", "text")
    return {
        "accuracy": Definition(measure=_accuracy, kinds=("class", "text")),
        "balanced-accuracy": Definition(measure=_balanced),
        **plain,
        **averaged,
        "auroc": Definition(measure=_ranked(auroc), needs="probabilities"),
        "average-precision": Definition(measure=_ranked(average_precision), needs="probabilities"),
        "log-loss": Definition(measure=_log_loss, better="lower", needs="probabilities"),
        "brier": Definition(measure=_brier, better="lower", needs="probabilities"),
        "ece": Definition(measure=_ece, better="lower", needs="probabilities"),
        "mae": Definition(measure=_residual(1), better="lower", kinds=("number",), needs="examples"),
        "mse": Definition(measure=_residual(2), better="lower", kinds=("number",), needs="examples"),
        "rmse": Definition(measure=_rmse, better="lower", kinds=("number",), needs="examples"),
        "r2": Definition(measure=_r2, kinds=("number",), needs="examples"),
        "word-error-rate": Definition(
            measure=_error_rate(str.split), better="lower", kinds=("text",), needs="examples"
        ),
        "character-error-rate": Definition(
            measure=_error_rate(list), better="lower", kinds=("text",), needs="examples"
        ),
        "perplexity": Definition(measure=_perplexity, better="lower", kinds=("text",), needs="losses"),
        "loss": Definition(measure=_losses, better="lower", kinds=everywhere, needs="losses"),
        **{
            name: Definition(measure=_latency(share), better="lower", kinds=everywhere, needs="latencies")
            for name, share in LATENCY_SHARES.items()
        },
    }


METRICS: Mapping[str, Definition] = _named()
"""By name. `precision:CLASS`, `recall:CLASS` and `f1:CLASS` are those of one class."""

ALIASES = {"wer": "word-error-rate", "cer": "character-error-rate", "logloss": "log-loss", "roc-auc": "auroc"}


def definition(name: str, *, classes: tuple[str, ...] = (), known: tuple[str, ...] = ()) -> Definition:
    """The metric of a name.

    Args:
        name: as in a gate's rule.
        classes: of the labels, for metrics of one class.
        known: names to propose, when there is no such metric; all of ours when empty.

    Raises:
        BadInput: there is none; the message has the nearest name.
    """
    name = ALIASES.get(name, name)
    if name in METRICS:
        return METRICS[name]
    which, colon, of_class = name.partition(":")
    if colon and which in ("precision", "recall", "f1"):
        if of_class in classes:
            return Definition(measure=_averaged(which, of_class))
        raise BadInput(f"metric {name}: there is no class {of_class!r}", do=f"name one of {', '.join(classes)}")
    raise unknown(name, known or tuple(METRICS))


def unknown(name: str, known: tuple[str, ...]) -> BadInput:
    """The error for a metric that nobody knows."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    do = (
        f"did you mean {near[0]}? Known are {', '.join(sorted(known))}"
        if near
        else f"use one of {', '.join(sorted(known))}"
    )
    return BadInput(f"no evaluator knows the metric {name!r}", do=do)
