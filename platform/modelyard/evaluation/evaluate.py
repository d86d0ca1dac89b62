"""Stage 3: a model on a split, example by example, with metrics and their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.data.shards import SplitReader
from modelyard.errors import BadInput
from modelyard.evaluation.measure import available, measured, own_indices
from modelyard.evaluation.metrics import CALIBRATION_BINS, METRICS, calibration_place
from modelyard.evaluation.predict import Answers, Progress, answers, classes_of, opened
from modelyard.evaluation.report import Bin, EvaluationReport, Metric, Summed
from modelyard.evaluation.stream import STREAMED_FROM, Stream
from modelyard.model.predictor import digest_of
from modelyard.model.recipe import Loaded, RecipeError
from modelyard.spec.codec import to_json
from modelyard.spec.metrics import OwnMetric
from modelyard.storage.atomic import write_text

FILE = "evaluation.json"
SHOWN = (
    "accuracy", "balanced-accuracy", "precision-macro", "recall-macro", "f1-macro", "f1-weighted", "auroc",
    "average-precision", "log-loss", "brier", "ece", "mae", "rmse", "r2", "word-error-rate", "character-error-rate",
    "perplexity", "loss", "latency-p50", "latency-p90",
)  # fmt: skip
"""Metrics of ours in every report, where they apply; gates can ask for any other."""
_LESS = ("loss", "error", "mae", "mse", "rmse", "perplexity", "rate", "distance")


def evaluate(
    model: Path,
    data: Path,
    split: str,
    *,
    slices: Sequence[str] = (),
    declared: Mapping[str, OwnMetric] | None = None,
    most: int | None = None,
    shown: Sequence[str] = SHOWN,
    work: Path,
    out: Path | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Judge a model folder on a split of prepared data.

    Args:
        model: the model folder.
        data: the folder that `prepare` wrote.
        split: its name.
        slices: columns whose values gates judge one by one.
        declared: the recipe's own metrics as the project declares them: which way is better.
        most: of a larger split so many examples, evenly spread over it; all when absent.
        shown: metrics of ours that the report measures now; a gate measures what its rules name.
        work: where the model's code is unpacked.
        out: where `evaluation.json` is written, if anywhere.
        progress: is told what is done, and which share of it.

    Raises:
        BadInput: the folder, the recipe, the split or a column cannot be used.
        Tampered: bytes differ from their digest.
        StageFailed: the model answers with NaN or Inf.
    """
    reader = SplitReader(data, split)
    if not len(reader):
        raise BadInput(f"split {split!r} has no examples", do="give it a larger share in data.splits")
    kind = reader.prepared.facts["label"]["kind"]
    large = min(len(reader), most or len(reader)) > STREAMED_FROM
    with opened(model, work) as predictor:
        known = predictor.recipe.facts.classes
        classes = classes_of(reader.prepared.facts.get("classes") or (), known)
        strange = tuple(name for name in reader.prepared.facts.get("classes") or () if known and name not in known)
        stream = Stream(kind, classes) if large else None
        kept = answers(
            predictor, reader, slices=slices, most=most, sink=stream.add if stream else None, progress=progress
        )
        if stream:
            own, replicates, less = _streamed(stream)
            kept.notes.append(f"examples: none is kept of more than {STREAMED_FROM:,}; metrics from sums over all")
            kept.notes += stream.notes
        else:
            own, replicates, less = _own_metrics(predictor.recipe, kept, declared or {})
        variant = predictor.description.variant
    bare = EvaluationReport(
        model=digest_of(model),
        variant=variant,
        split=split,
        split_digest=reader.prepared.digests[split],
        kind=kind,
        bytes=sum(path.stat().st_size for path in model.rglob("*") if path.is_file()),
        classes=classes if kind == "class" else (),
        never_learnt=strange if kind == "class" else (),
        examples=stream.examples if stream else len(kept.ids),
        metrics=own,
        ids=tuple(kept.ids),
        labels=tuple(kept.labels),
        predictions=tuple(kept.predictions),
        scores=_whole(kept.scores, kept),
        probabilities=_whole(kept.probabilities, kept),
        losses=_whole(kept.losses, kept),
        latencies_ms=tuple(kept.latencies_ms),
        slices={} if stream else {column: tuple(values) for column, values in kept.slices.items()},
        summed=_summed(stream) if stream else {},
        own=replicates,
        lower_is_better=less,
        notes=tuple(kept.notes),
    )
    report = _completed(bare, shown, progress)
    if stream and kind == "class":
        report = replace(report, confusion=tuple(tuple(row) for row in stream.confusion().tolist()))
    if out is not None:
        write_text(out / FILE, to_json(report, indent=None))
    return report


def _streamed(stream: Stream) -> tuple[dict[str, Metric], dict[str, tuple[float, ...]], tuple[str, ...]]:
    """The metrics of a stream, in the form of a recipe's own: a value, and values in resamples that all share."""
    values = {name: each for name, each in stream.replicates().items() if np.isfinite(each).all()}
    metrics = {
        name: Metric(value=float(each[0]), low=float(each[0]), high=float(each[0])) for name, each in values.items()
    }
    replicates = {name: tuple(each[1:].tolist()) for name, each in values.items()}
    return metrics, replicates, tuple(name for name in values if name in METRICS and METRICS[name].better == "lower")


def _summed(stream: Stream) -> dict[str, dict[str, Summed]]:
    """The same of each slice."""
    found: dict[str, dict[str, Summed]] = {}
    for (column, value), part in stream.parts.items():
        metrics, replicates, _ = _streamed(part)
        values = {name: metric.value for name, metric in metrics.items()}
        found.setdefault(column, {})[value] = Summed(examples=part.examples, values=values, own=replicates)
    return found


def _whole(values: Sequence[Any], kept: Answers) -> tuple[Any, ...]:
    """A column, if every example has its value."""
    return tuple(values) if len(values) == len(kept.ids) else ()


def _own_metrics(
    recipe: Loaded, kept: Answers, declared: Mapping[str, OwnMetric]
) -> tuple[dict[str, Metric], dict[str, tuple[float, ...]], tuple[str, ...]]:
    """The recipe's own metrics, their resamples, and those for which less is better.

    The project's declaration says which; of a metric that it does not name, an attribute `lower_is_better` of the
    function or its name's last word (`…-loss`, `…_error`). No gate can name such a one.
    """
    functions = recipe.metrics()
    if not functions:
        return {}, {}, ()
    given = recipe.recipe.metrics()
    picks = own_indices(len(kept.ids))
    metrics: dict[str, Metric] = {}
    replicates: dict[str, tuple[float, ...]] = {}
    less: list[str] = []
    for name, function in functions.items():
        value = function(kept.raw, kept.labels)
        if not math.isfinite(value):
            kept.notes.append(f"{name}: the recipe's metric is {value}")
            continue
        try:
            drawn = [function([kept.raw[i] for i in pick], [kept.labels[i] for i in pick]) for pick in picks]
        except RecipeError as error:
            raise BadInput(
                f"{name} fails on a resample of the examples: {error.what}",
                do="let it return nan where it is not defined",
            ) from error
        last = name.replace("_", "-").split("-")[-1].lower()
        guessed = getattr(given[name], "lower_is_better", last in _LESS)
        if declared[name].better == "lower" if name in declared else guessed:
            less.append(name)
        replicates[name] = tuple(round(one, 7) for one in drawn)
        metrics[name] = Metric(value=value, low=value, high=value)
    return metrics, replicates, tuple(less)


def _completed(report: EvaluationReport, shown: Sequence[str], progress: Progress | None) -> EvaluationReport:
    """The report with all metrics and tables, which are made from its own columns."""
    there = available(report)
    names = [name for name in there if name in shown or name in report.own]
    metrics, notes = {}, list(report.notes)
    for place, name in enumerate(names):
        if progress:
            progress(f"measuring {name}", place / len(names))
        metric = measured(report, name)
        if all(math.isfinite(bound) for bound in (metric.value, metric.low, metric.high)):
            metrics[name] = metric
        else:
            notes.append(f"{name}: not defined on these examples")
    fields = {**report.__dict__, "metrics": metrics, "notes": tuple(notes)}
    if report.kind == "class" and report.ids:
        fields["confusion"] = _confusion(report)
    if report.kind == "class" and report.probabilities:
        fields["calibration"] = _calibration(report)
    return EvaluationReport(**fields)


def _confusion(report: EvaluationReport) -> tuple[tuple[int, ...], ...]:
    size = len(report.classes)
    matrix = np.zeros((size, size), dtype=int)
    np.add.at(matrix, (np.asarray(report.labels), np.asarray(report.predictions)), 1)
    return tuple(tuple(row) for row in matrix.tolist())


def _calibration(report: EvaluationReport) -> tuple[Bin, ...]:
    chances = np.asarray(report.probabilities)
    scores, right = chances.max(axis=1), chances.argmax(axis=1) == np.asarray(report.labels)
    place = calibration_place(scores)
    return tuple(
        Bin(
            low=at / CALIBRATION_BINS,
            high=(at + 1) / CALIBRATION_BINS,
            count=int((place == at).sum()),
            score=round(float(scores[place == at].mean()), 6),
            accuracy=round(float(right[place == at].mean()), 6),
        )
        for at in range(CALIBRATION_BINS)
        if (place == at).any()
    )
