"""Run a model over a split, batch by batch, and keep what it answered on each example."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from modelyard.data.shards import SplitReader, plain
from modelyard.errors import BadInput, StageFailed, Tampered
from modelyard.model.predictor import ChangedError, Predictor
from modelyard.model.recipe import Loaded, RecipeError

Progress = Callable[[str, float], None]
BATCH = 128
TIMED = 100
"""Examples asked alone, for the latency: enough for p90, and bounded."""
LOSSES_UP_TO = 20_000
"""Examples up to which each one's loss is computed alone."""
_DIGITS = 7


@dataclass
class Answers:
    """Columns over the examples; see `EvaluationReport`."""

    ids: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    probabilities: list[tuple[float, ...]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    slices: dict[str, list[str]] = field(default_factory=dict)
    raw: list[dict[str, Any]] = field(default_factory=list)
    """Predictions as the recipe gave them, for its own metrics."""
    notes: list[str] = field(default_factory=list)


@contextmanager
def opened(model: Path, work: Path) -> Iterator[Predictor]:
    """A loaded model; what is wrong with the folder or its recipe becomes one of our errors.

    Raises:
        Tampered: bytes differ from their digest.
        BadInput: the recipe or the folder cannot be used.
    """
    try:
        with Predictor.load(model, work=work) as predictor:
            yield predictor
    except ChangedError as error:
        raise Tampered(error.what, do=error.do) from error
    except RecipeError as error:
        raise BadInput(error.what, do=error.do) from error


def answers(
    predictor: Predictor,
    reader: SplitReader,
    *,
    slices: Sequence[str],
    most: int | None = None,
    sink: Callable[[Answers], None] | None = None,
    progress: Progress | None = None,
) -> Answers:
    """Ask a model about every example of a split, or of a larger one about `most`, evenly spread over it.

    Args:
        predictor: the model.
        reader: the split.
        slices: columns to keep.
        most: examples to ask about.
        sink: takes each batch's answers and empties them, where all would not fit.
        progress: is told what is done.

    Raises:
        BadInput: there is no such column to slice by, or predictions do not fit the labels.
        StageFailed: the model answered with NaN or Inf.
    """
    facts = reader.prepared.facts
    label = facts["label"]["column"]
    kept = Answers(slices={column: [] for column in slices})
    asked = min(len(reader), most or len(reader))
    with_losses = asked <= LOSSES_UP_TO and sink is None
    if not with_losses:
        kept.notes.append(f"loss: not computed example by example above {LOSSES_UP_TO} examples")
    for start in range(0, asked, BATCH):
        places = [at * len(reader) // asked for at in range(start, min(start + BATCH, asked))]
        rows = _rows(reader, places)
        if start == 0:
            _check_slices(slices, rows[0], label, facts.get("classes") or [])
        batch = predictor.batch(rows)
        outputs = predictor.forward(batch)
        records = predictor.recipe.predict(outputs)
        if len(records) != len(rows):
            raise BadInput(
                f"{predictor.recipe.where}.predict gave {len(records)} predictions for {len(rows)} examples",
                do="return one dict per example",
            )
        _keep(kept, rows, records, label=label, facts=facts, own=predictor.recipe.facts.classes)
        if with_losses:
            with_losses = _keep_losses(kept, predictor.recipe, outputs, batch, len(rows))
        if sink:
            sink(kept)
        if progress:
            progress("asking the model", min(1.0, (start + BATCH) / asked))
    kept.latencies_ms = latencies(predictor, list(reader.rows(0, TIMED)))
    return kept


def _rows(reader: SplitReader, places: Sequence[int]) -> list[dict[str, Any]]:
    """The examples at these places of a split, which are in ascending order."""
    if places[-1] - places[0] == len(places) - 1:
        return list(reader.rows(places[0], places[-1] + 1))
    columns = reader.take(places)
    return [{name: plain(values[at]) for name, values in columns.items()} for at in range(len(places))]


def latencies(predictor: Predictor, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Milliseconds that each example takes when it is asked alone, after a few that are not counted."""
    for row in rows[:3]:
        predictor.predict([row])
    took = []
    for row in rows:
        began = time.perf_counter()
        predictor.predict([row])
        took.append(round((time.perf_counter() - began) * 1000, 4))
    return took


def _check_slices(slices: Sequence[str], row: Mapping[str, Any], label: str, classes: Sequence[str]) -> None:
    scalar = [name for name, value in row.items() if isinstance(value, str | int | float | bool) and name != "id"]
    for column in slices:
        if column not in scalar:
            raise BadInput(f"there is no column {column!r} to slice by", do=f"name one of {', '.join(scalar)}")
        if column == label and not classes and isinstance(row[label], float):
            raise BadInput(f"{column!r} holds numbers that are no classes", do="slice by another column")


def _keep(
    kept: Answers,
    rows: Sequence[Mapping[str, Any]],
    records: Sequence[dict[str, Any]],
    *,
    label: str,
    facts: Mapping[str, Any],
    own: Sequence[str],
) -> None:
    """Append a batch; class indices are those of `classes_of(facts, own)`."""
    kind, classes = facts["label"]["kind"], list(facts.get("classes") or [])
    both = classes_of(classes, own)
    for row, record in zip(rows, records, strict=True):
        name = str(row["id"])
        value = record["prediction"]
        kept.ids.append(name)
        kept.labels.append(row[label] if kind != "number" else float(row[label]))
        kept.predictions.append(_prediction(value, kind, own or classes, both, name))
        if "score" in record:
            kept.scores.append(round(_finite(record["score"], name), _DIGITS))
        if kind == "class" and "probabilities" in record:
            kept.probabilities.append(_probabilities(record["probabilities"], own or classes, both, name))
        for column, values in kept.slices.items():
            value = row[column]
            values.append(classes[value] if column == label and kind == "class" else str(value))
        kept.raw.append(_by_data(record, kept, kind, own or classes, both))


def _by_data(
    record: dict[str, Any], kept: Answers, kind: str, own: Sequence[str], both: Sequence[str]
) -> dict[str, Any]:
    """A prediction for the recipe's own metrics: its classes are counted as the labels are.

    A model that learnt its classes in another order would else be wrong in its own metrics, and right in ours.
    """
    if kind != "class" or list(own) == list(both):
        return record
    moved = dict(record)
    if not isinstance(record["prediction"], str):
        moved["prediction"] = kept.predictions[-1]
    if "probabilities" in record:
        moved["probabilities"] = list(kept.probabilities[-1])
    return moved


def classes_of(data: Sequence[str], model: Sequence[str]) -> tuple[str, ...]:
    """The data's classes, then those that only the model knows: an older model may have learnt others."""
    return (*data, *(name for name in model if name not in data))


def _prediction(value: Any, kind: str, own: Sequence[str], both: Sequence[str], example: str) -> Any:
    if kind == "number":
        return _finite(value, example)
    if kind == "text":
        return str(value)
    if isinstance(value, str) and value in both:
        return both.index(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(own):
        return both.index(own[value])
    raise BadInput(
        f"the prediction for example {example} is {value!r:.40}, which is no class",
        do=f"let the recipe's predict give an index below {len(own)}, or a class's name",
    )


def _probabilities(values: Any, own: Sequence[str], both: Sequence[str], example: str) -> tuple[float, ...]:
    given = [_finite(value, example) for value in values]
    if len(given) != len(own):
        raise BadInput(
            f"{len(given)} probabilities for example {example}, but the model knows {len(own)} classes",
            do="let the recipe's predict give one for each class",
        )
    placed = dict(zip(own, given, strict=True))
    return tuple(round(placed.get(name, 0.0), _DIGITS) for name in both)


def _finite(value: Any, example: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadInput(
            f"the answer for example {example} is {value!r:.40}, not a number",
            do="let the recipe's predict give numbers",
        ) from None
    if not math.isfinite(number):
        raise StageFailed(
            f"the model answered {number} for example {example}",
            do="train again: look at the loss and the learning rate",
        )
    return number


def _keep_losses(kept: Answers, recipe: Loaded, outputs: Any, batch: Mapping[str, Any], count: int) -> bool:
    """Each example's loss alone; False, with a note, where the recipe's loss needs a whole batch."""
    try:
        for at in range(count):
            one = {name: _one(values, at) for name, values in batch.items()}
            value = float(recipe.loss(_one(outputs, at), one))
            if not math.isfinite(value):
                raise ValueError(f"it is {value} for example {kept.ids[len(kept.losses)]}")
            kept.losses.append(round(value, _DIGITS))
    except (RecipeError, ValueError) as error:
        kept.losses.clear()
        kept.notes.append(f"loss: cannot be computed for one example alone: {error}")
        return False
    return True


def _one(values: Any, at: int) -> Any:
    """Example `at` of what a batch or its outputs hold, still with the batch's dimension."""
    if isinstance(values, Tensor):
        return values[at : at + 1] if values.ndim else values
    if isinstance(values, Mapping):
        return {name: _one(value, at) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_one(value, at) for value in values)
    if isinstance(values, list):
        return values[at : at + 1]
    return values
