"""What each example does to a metric that is a mean, or a smooth function of means; and the interval that follows.

The *influence* of example i is how the metric would move, times the number of examples, if i counted a little more
(the infinitesimal jackknife; Efron and Stein 1981): the metric varies from sample to sample as their mean does. So
intervals need no resampling, and two models on the same examples are compared by the differences of influences.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.evaluation.metrics import CALIBRATION_BINS, SMALLEST, Cells, calibration_place, edits
from modelyard.statistics.intervals import Interval
from modelyard.statistics.skewed import Moments, reach

Array = npt.NDArray[np.floating[Any]]


def interval(value: float, influence: Array, confidence: float) -> Interval:
    """Around a metric's value, from the influence of its examples (N,), whose mean is 0."""
    return Interval(value - _reach(influence, confidence), value + _reach(-influence, confidence))


def _reach(influence: Array, confidence: float) -> float:
    """How far below the value the bound lies, with one more example that is as bad as the worst."""
    seen = np.append(influence, influence.min())
    away = seen - seen.mean()
    moments = Moments(len(seen), float(np.mean(away**2)), float(np.mean(away**3)))
    return reach(moments, confidence) - float(seen.mean())


def calibration_excess(cells: Cells) -> float:
    """By how much the calibration error of so few examples lies above the truth, about.

    It sums absolute values, and |x + noise| is larger than |x| in the mean: where the bins' errors are normal, by the
    mean of the folded normal distribution.
    """
    off, place = _off(cells)
    total = len(off)
    sums = np.bincount(place, off, CALIBRATION_BINS)
    squares = np.bincount(place, off**2, CALIBRATION_BINS) - sums**2 / total
    excess = 0.0
    for gap, spread in zip(np.abs(sums) / total, np.sqrt(np.maximum(squares, 0)) / total, strict=True):
        if spread > 0:
            ratio = float(gap / spread)
            folded = spread * math.sqrt(2 / math.pi) * math.exp(-ratio * ratio / 2)
            excess += float(folded + gap * math.erf(ratio / math.sqrt(2)) - gap)
    return excess


def _mean(values: Callable[[Cells], Array]) -> Callable[[Cells], Array]:
    def influence(cells: Cells) -> Array:
        found = values(cells)
        away: Array = found - found.mean()
        return away

    return influence


def _ratio(split: Callable[[str], Any]) -> Callable[[Cells], Array]:
    """Of edits per word or character."""

    def influence(cells: Cells) -> Array:
        pairs = [(split(str(a)), split(str(b))) for a, b in zip(cells.labels, cells.predictions, strict=True)]
        edited = np.array([edits(a, b) for a, b in pairs], dtype=float)
        length = np.array([len(a) for a, _ in pairs], dtype=float)
        if not length.sum():
            return np.zeros(len(pairs))
        rate: Array = (edited - edited.sum() / length.sum() * length) / length.mean()
        return rate

    return influence


def _log_loss(cells: Cells) -> Array:
    assert cells.probabilities is not None
    given: Array = cells.probabilities[np.arange(len(cells.probabilities)), np.asarray(cells.labels)]
    return -np.log(np.clip(given, SMALLEST, 1))


def _brier(cells: Cells) -> Array:
    assert cells.probabilities is not None
    wanted = np.zeros_like(cells.probabilities)
    wanted[np.arange(len(wanted)), np.asarray(cells.labels)] = 1
    squares: Array = ((cells.probabilities - wanted) ** 2).sum(axis=1)
    return squares


def _off(cells: Cells) -> tuple[Array, npt.NDArray[np.intp]]:
    """Right or not, minus the winner's score; and its bin."""
    assert cells.probabilities is not None
    scores = cells.probabilities.max(axis=1)
    return (cells.probabilities.argmax(axis=1) == np.asarray(cells.labels)) - scores, calibration_place(scores)


def _ece(cells: Cells) -> Array:
    off, place = _off(cells)
    signed: Array = np.sign(np.bincount(place, off, CALIBRATION_BINS))[place] * off
    return signed


def _away(cells: Cells) -> Array:
    away: Array = np.abs(np.asarray(cells.predictions, dtype=float) - np.asarray(cells.labels, dtype=float))
    return away


def _squares(cells: Cells) -> Array:
    squares: Array = _away(cells) ** 2
    return squares


def _rmse(cells: Cells) -> Array:
    squares = _squares(cells)
    root = math.sqrt(squares.mean())
    moved: Array = (squares - squares.mean()) / (2 * root) if root else np.zeros(len(squares))
    return moved


def _r2(cells: Cells) -> Array:
    squares, labels = _squares(cells), np.asarray(cells.labels, dtype=float)
    spread = (labels - labels.mean()) ** 2
    if not spread.mean():
        return np.full(len(squares), np.nan)
    explained: Array = squares.mean() / spread.mean() * (spread - spread.mean()) - (squares - squares.mean())
    explained /= spread.mean()
    return explained


def _losses(cells: Cells) -> Array:
    return np.asarray(cells.losses, dtype=float)


def _perplexity(cells: Cells) -> Array:
    losses = _losses(cells)
    return np.exp(losses.mean()) * (losses - losses.mean())  # type: ignore[no-any-return]


INFLUENCE: Mapping[str, Callable[[Cells], Array]] = {
    "log-loss": _mean(_log_loss),
    "brier": _mean(_brier),
    "ece": _mean(_ece),
    "mae": _mean(_away),
    "mse": _mean(_squares),
    "rmse": _rmse,
    "r2": _r2,
    "word-error-rate": _ratio(str.split),
    "character-error-rate": _ratio(list),
    "perplexity": _perplexity,
    "loss": _mean(_losses),
}
"""By the metric's name: (C cells, one for each example) → (C,)."""
