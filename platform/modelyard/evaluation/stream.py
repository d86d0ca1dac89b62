"""Metrics of a split whose per-example results do not fit: sums over weighted examples, batch by batch.

The Poisson bootstrap (Chamandy et al., "Estimating uncertainty for massive data streams", 2012): in each resample an
example counts as often as a Poisson variable of mean 1 says. The weights follow from an example's place in the split
alone, so two models on the same split share them, and their difference is paired although no example was kept.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.evaluation.metrics import (
    CALIBRATION_BINS,
    METRICS,
    SMALLEST,
    Cells,
    Kind,
    calibration_place,
    edits,
)
from modelyard.evaluation.predict import Answers

RESAMPLES = 400
STREAMED_FROM = 1_000_000
"""Examples of a split above which none is kept: about 2 GB of answers with ten classes."""

Array = npt.NDArray[Any]
Replicates = Mapping[str, Array]


class Stream:
    """Takes in answers and forgets them. Row 0 of every sum counts each example once: the point."""

    def __init__(self, kind: Kind, classes: int) -> None:
        self._kind = kind
        self._classes = classes
        self._seen = 0
        self._probable = kind == "class"
        self._sums: dict[str, Array] = {}

    def add(self, kept: Answers) -> None:
        """Take in a batch, and empty its columns."""
        count = len(kept.ids)
        rng = np.random.default_rng([0, self._seen])
        weights = np.concatenate([np.ones((1, count)), rng.poisson(1.0, (RESAMPLES, count))])
        self._seen += count
        self._add("weight", weights, np.ones(count))
        {"class": self._of_classes, "number": self._of_numbers, "text": self._of_texts}[self._kind](weights, kept)
        for column in (kept.ids, kept.labels, kept.predictions, kept.scores, kept.probabilities, kept.raw):
            column.clear()

    @property
    def examples(self) -> int:
        """How many were taken in."""
        return self._seen

    def confusion(self) -> Array:
        """Of all examples, (label, prediction)."""
        counts: Array = self._sums["confusion"][0].reshape(self._classes, self._classes)
        return counts.astype(int)

    def replicates(self) -> Replicates:
        """Each metric's value, and its values in the resamples: (1 + RESAMPLES,)."""
        sums = self._sums
        if self._kind == "class":
            return {**self._counted(), **(self._probable_ones() if self._probable else {})}
        if self._kind == "text":
            return {
                "accuracy": sums["right"] / sums["weight"],
                "word-error-rate": sums["word edits"] / sums["words"],
                "character-error-rate": sums["letter edits"] / sums["letters"],
            }
        mse = sums["square"] / sums["weight"]
        spread = sums["label square"] / sums["weight"] - (sums["label"] / sums["weight"]) ** 2
        return {"mae": sums["away"] / sums["weight"], "mse": mse, "rmse": np.sqrt(mse), "r2": 1 - mse / spread}

    def _counted(self) -> Replicates:
        """All that a confusion matrix gives: its cells are examples enough."""
        labels, predictions = np.divmod(np.arange(self._classes**2), self._classes)
        cells = Cells(classes=self._classes, labels=labels, predictions=predictions)
        names = [name for name, one in METRICS.items() if "class" in one.kinds and one.needs == "predictions"]
        return {name: METRICS[name].measure(cells, self._sums["confusion"]) for name in names}

    def _probable_ones(self) -> Replicates:
        sums = self._sums
        return {
            "log-loss": sums["log-loss"] / sums["weight"],
            "brier": sums["brier"] / sums["weight"],
            "ece": np.abs(sums["bins"]).sum(axis=1) / sums["weight"],
        }

    def _of_classes(self, weights: Array, kept: Answers) -> None:
        labels, predictions = np.asarray(kept.labels), np.asarray(kept.predictions)
        self._onto("confusion", weights, labels * self._classes + predictions, self._classes**2)
        self._probable = self._probable and len(kept.probabilities) == len(kept.ids)
        if not self._probable:
            return
        chances = np.asarray(kept.probabilities)
        wanted = np.zeros_like(chances)
        wanted[np.arange(len(labels)), labels] = 1
        self._add("log-loss", weights, -np.log(np.clip((chances * wanted).sum(axis=1), SMALLEST, 1)))
        self._add("brier", weights, ((chances - wanted) ** 2).sum(axis=1))
        scores = chances.max(axis=1)
        off = (chances.argmax(axis=1) == labels) - scores
        self._onto("bins", weights * off, calibration_place(scores), CALIBRATION_BINS)

    def _of_numbers(self, weights: Array, kept: Answers) -> None:
        labels = np.asarray(kept.labels, dtype=float)
        away = np.abs(np.asarray(kept.predictions, dtype=float) - labels)
        for name, values in (("away", away), ("square", away**2), ("label", labels), ("label square", labels**2)):
            self._add(name, weights, values)

    def _of_texts(self, weights: Array, kept: Answers) -> None:
        pairs = [(str(a), str(b)) for a, b in zip(kept.labels, kept.predictions, strict=True)]
        self._add("right", weights, np.array([a == b for a, b in pairs], dtype=float))
        splits: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
            ("word edits", "words", str.split),
            ("letter edits", "letters", list),
        )
        for edited, length, split in splits:
            self._add(edited, weights, np.array([edits(split(a), split(b)) for a, b in pairs], dtype=float))
            self._add(length, weights, np.array([len(split(a)) for a, _ in pairs], dtype=float))

    def _add(self, name: str, weights: Array, values: Array) -> None:
        self._sums[name] = self._sums.get(name, 0) + weights @ values

    def _onto(self, name: str, weights: Array, places: Array, size: int) -> None:
        """Sums by place, (1 + RESAMPLES, size)."""
        sums = self._sums.setdefault(name, np.zeros((len(weights), size)))
        np.add.at(sums.T, places, weights.T)
