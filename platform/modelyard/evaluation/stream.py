"""Metrics of a split whose per-example results do not fit: sums over weighted examples, batch by batch.

The Poisson bootstrap (Chamandy et al., "Estimating uncertainty for massive data streams", 2012): in each resample an
example counts as often as a Poisson variable of mean 1 says. The weights follow from an example's place in the split
alone, so two models on the same split share them, and their difference is paired although no example was kept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.errors import BadInput
from modelyard.evaluation.metrics import (
    CALIBRATION_BINS,
    METRICS,
    SMALLEST,
    Cells,
    Kind,
    auroc,
    average_precision,
    calibration_place,
    definition,
    edits,
)
from modelyard.evaluation.predict import Answers

RESAMPLES = 400
STREAMED_FROM = 1_000_000
"""Examples of a split above which none is kept: about 2 GB of answers with ten classes."""
ONE_BY_ONE = 20
"""Classes up to which each has metrics and a ranking of its own: their sums take 0.7 MB a class, in every slice."""
SLICE_VALUES = 50
"""Of a column: each has sums of its own."""
BINS, FINE_BINS = 64, 8192
"""Of scores, equal in logits: for the spread over resamples, and for the value."""

Array = npt.NDArray[Any]
Replicates = Mapping[str, Array]


class Stream:
    """Takes in answers and forgets them. Row 0 of every sum counts each example once: the point."""

    def __init__(self, kind: Kind, classes: Sequence[str]) -> None:
        self._kind = kind
        self._names = tuple(classes)
        self._classes = len(self._names)
        self._few = kind == "class" and self._classes <= ONE_BY_ONE
        self._probable = kind == "class"
        self._sums: dict[str, Array] = {}
        self.examples = 0
        """How many were taken in."""
        self.parts: dict[tuple[str, str], Stream] = {}
        """Slice (column, value) → its own sums."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not measured, and why."""
        if self._few or self._kind != "class":
            return ()
        return (f"auroc, average-precision, metrics of one class: not summed of more than {ONE_BY_ONE} classes",)

    def add(self, kept: Answers) -> None:
        """Take in a batch, and empty its columns.

        Raises:
            BadInput: a column to slice by has too many values.
        """
        count = len(kept.ids)
        rng = np.random.default_rng([0, self.examples])
        weights = np.concatenate([np.ones((1, count)), rng.poisson(1.0, (RESAMPLES, count))])
        self._sum(weights, kept)
        for column, values in kept.slices.items():
            for value in dict.fromkeys(values):
                rows = [at for at, one in enumerate(values) if one == value]
                self._part(column, value)._sum(weights[:, rows], _picked(kept, rows))
        columns = (kept.ids, kept.labels, kept.predictions, kept.scores, kept.probabilities, kept.raw)
        for each in (*columns, *kept.slices.values()):
            each.clear()

    def _part(self, column: str, value: str) -> "Stream":
        if (column, value) not in self.parts:
            if sum(other == column for other, _ in self.parts) == SLICE_VALUES:
                raise BadInput(
                    f"{column} has more than {SLICE_VALUES} values in a split whose examples are too many to keep",
                    do="slice by a column of fewer values, or make the split smaller",
                )
            self.parts[column, value] = Stream(self._kind, self._names)
        return self.parts[column, value]

    def _sum(self, weights: Array, kept: Answers) -> None:
        self.examples += len(kept.ids)
        self._add("weight", weights, np.ones(len(kept.ids)))
        {"class": self._of_classes, "number": self._of_numbers, "text": self._of_texts}[self._kind](weights, kept)

    def confusion(self) -> Array:
        """Of all examples, (label, prediction)."""
        counts: Array = self._sums["confusion"][0].reshape(self._classes, self._classes)
        return counts.astype(int)

    def replicates(self) -> Replicates:
        """Each metric's value, and those in the resamples: (1 + RESAMPLES,). Not finite where it is not defined."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._replicates()

    def _replicates(self) -> Replicates:
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
        cells = Cells(classes=self._classes, names=self._names, labels=labels, predictions=predictions)
        names = [name for name, one in METRICS.items() if "class" in one.kinds and one.needs == "predictions"]
        if self._few:
            names += [f"{which}:{one}" for which in ("precision", "recall", "f1") for one in self._names]
        return {name: definition(name, classes=self._names).measure(cells, self._sums["confusion"]) for name in names}

    def _probable_ones(self) -> Replicates:
        sums = self._sums
        ranked = {"auroc": auroc, "average-precision": average_precision} if self._few else {}
        return {
            "log-loss": sums["log-loss"] / sums["weight"],
            "brier": sums["brier"] / sums["weight"],
            "ece": np.abs(sums["bins"]).sum(axis=1) / sums["weight"],
            **{name: self._ranked(measure) for name, measure in ranked.items()},
        }

    def _ranked(self, measure: Callable[[Array, Array, Array], Array]) -> Array:
        """Of two classes the second against the first; of more, the mean of each against the rest.

        The value comes from fine bins: examples in one count as ties, which moves an area by at most half the share of
        pairs in one bin, and by much less where scores are spread. How it varies comes from coarse ones.
        """
        found = []
        for which in self._ranked_classes:
            fine, coarse = self._sums[f"fine {which}"], self._sums[f"coarse {which}"]
            if fine[:, :FINE_BINS].any() and fine[:, FINE_BINS:].any():
                value = measure(*_in_bins(FINE_BINS), fine)
                values = measure(*_in_bins(BINS), coarse)
                found.append(np.clip(values + value - values[0], 0, 1))
        return np.mean(found, axis=0) if found else np.full(1 + RESAMPLES, np.nan)

    @property
    def _ranked_classes(self) -> Sequence[int]:
        return [1] if self._classes == 2 else range(self._classes)

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
        for which in self._ranked_classes if self._few else ():
            height, against = _height(chances[:, which]), labels != which
            for name, bins, each in (("fine", FINE_BINS, weights[:1]), ("coarse", BINS, weights)):
                places = np.minimum((height * bins).astype(np.intp), bins - 1)
                self._onto(f"{name} {which}", each, places + bins * against, 2 * bins)

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


def _picked(kept: Answers, rows: Sequence[int]) -> Answers:
    """The answers on some examples of a batch."""

    def of(values: Sequence[Any]) -> list[Any]:
        return [values[at] for at in rows] if len(values) == len(kept.ids) else []

    return Answers(
        ids=of(kept.ids),
        labels=of(kept.labels),
        predictions=of(kept.predictions),
        probabilities=of(kept.probabilities),
    )


def _height(chances: Array) -> Array:
    """Chances as places from 0 to 1, in whose steps logits are equal."""
    edge = np.log1p(1 / SMALLEST)
    return np.clip(0.5 + (np.log(chances + SMALLEST) - np.log1p(SMALLEST - chances)) / (2 * edge), 0, 1)  # type: ignore[no-any-return]


def _in_bins(bins: int) -> tuple[Array, Array]:
    """Cells of a histogram over positives, then negatives: whether each is positive, and its score (2·bins,)."""
    return np.arange(2 * bins) < bins, np.tile(np.arange(bins), 2)
