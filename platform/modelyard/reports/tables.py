"""The numbers of a report as tables, the same for HTML and Markdown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelyard.compression.report import CompressionReport, Estimate, VariantResult
from modelyard.data.prepared import PreparedData
from modelyard.evaluation.gate import GateReport, RuleResult
from modelyard.evaluation.report import EvaluationReport, Metric
from modelyard.evaluation.rules import limit_of
from modelyard.figures import change, number, signed
from modelyard.reports.view import RunView
from modelyard.spec.gates import metric_of
from modelyard.training.job import TrainedModel

DASH = "–"


@dataclass(frozen=True)
class Table:
    """Cells are text; columns named in `numbers` are set flush right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()
    """Rows that stand out."""


def splits(data: PreparedData) -> Table:
    """Size and digest of each split."""
    order = ("train", "validation", "test")
    rows = tuple(
        (name, f"{sum(shard.examples for shard in data.splits[name]):,}", str(len(data.splits[name])),
         short(data.digests.get(name, "")))
        for name in _first(order, data.splits)
    )  # fmt: skip
    return Table(("split", "examples", "shards", "digest"), rows, frozenset({1, 2}))


def cleaning(data: PreparedData) -> Table:
    """What was read, dropped and filled: everything that is counted but the splits' sizes."""
    rows = tuple((name, f"{data.counts[name]:,}") for name in _first(("read",), data.counts) if name not in data.splits)
    return Table(("counted", "examples"), rows, frozenset({1}))


def training(trained: TrainedModel) -> Table:
    """Each epoch."""
    names = sorted({name for point in trained.epochs for name in point.validation_metrics})
    rows = []
    for one in trained.epochs:
        validation = DASH if one.validation_loss is None else number(one.validation_loss)
        values = (number(one.validation_metrics.get(name, math.nan)) for name in names)
        rows.append(
            (str(one.epoch), number(one.train_loss), validation, *values, number(one.lr, 3), f"{one.seconds:.2f} s")
        )
    headers = ("epoch", "training loss", "validation loss", *names, "rate", "took")
    return Table(headers, tuple(rows), frozenset(range(len(headers))))


COMMON = ("accuracy", "f1-macro", "auroc", "log-loss", "ece", "mae", "rmse", "r2", "word-error-rate", "perplexity")
"""Metrics that people look for first, where nobody said which matter."""


def leading(view: RunView, report: EvaluationReport) -> tuple[str, ...]:
    """The metrics that matter to this run: those of gates and budget first, then the recipe's own and common ones."""
    asked = [metric_of(one.rule) for one in view.gates.rules] if view.gates else []
    asked += list(view.compression.max_drop) if view.compression else []
    return tuple(dict.fromkeys(name for name in (*asked, *report.own, *COMMON) if name in report.metrics))


def metrics(view: RunView, names: Sequence[str] | None = None) -> Table:
    """Metrics with their intervals, and what the served variant has where it is another model.

    Args:
        view: a run with an evaluation.
        names: which; all, those that matter first, when absent.
    """
    candidate, served = view.evaluation, view.served
    assert candidate is not None
    other = served if served is not None and served.model != candidate.model else None
    headers = ("metric", "value", "95 % interval", "by", *(("as served",) if other else ()))
    rows = []
    for name in _first(leading(view, candidate), candidate.metrics) if names is None else names:
        one = candidate.metrics[name]
        row = (
            f"{name}, ms" if name.startswith("latency") else name,
            number(one.value),
            interval(one),
            one.method or DASH,
        )
        rows.append((*row, *((number(other.metrics[name].value) if name in other.metrics else DASH,) if other else ())))
    return Table(headers, tuple(rows), frozenset({1, 2, 4}))


def _first(order: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """`names`, those of `order` first: what is read from JSON comes sorted by letter."""
    there = list(names)
    return tuple(dict.fromkeys([name for name in order if name in there] + there))


def mistakes(report: EvaluationReport, most: int = 6) -> Table:
    """The pairs of classes that were mistaken most often."""
    found = [
        (count, report.classes[row], report.classes[column])
        for row, counts in enumerate(report.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    found.sort(key=lambda one: (-one[0], one[1], one[2]))
    rows = tuple((was, answered, str(count)) for count, was, answered in found[:most])
    return Table(("was", "answered", "times"), rows, frozenset({2}))


def rule_name(result: RuleResult) -> str:
    """A rule as a sentence fragment: `accuracy at least 0.85`."""
    rule = result.rule
    if rule.no_regression_on is not None:
        return f"no regression on {rule.no_regression_on}"
    limit, above = limit_of(rule)
    if rule.not_worse_than_champion is not None:
        what = f"not worse than the champion by {-limit:g}"
    elif rule.not_worse_than_anchor is not None:
        what = f"not worse than version {rule.not_worse_than_anchor.version} by {-limit:g}"
    elif rule.better_than_champion:
        what = "better than the champion"
    elif rule.max_overfit is not None:
        what = f"overfit at most {limit:g}"
    elif rule.max_gap is not None:
        return f"{rule.metric} gap between values of {rule.slice} at most {limit:g}"
    else:
        what = f"at least {limit:g}" if above else f"at most {rule.max_latency or rule.max_size or f'{limit:g}'}"
    folds = rule.cross_validated
    where = f", {rule.slice} = {result.slice}" if rule.slice else ""
    how = f", {folds.folds} folds × {folds.repeats}" if folds else ""
    return f"{metric_of(rule)} {what}{where}{how}"


def gates(report: GateReport) -> Table:
    """Each rule with both sides, their difference, and the verdict."""
    rows = tuple(
        (
            rule_name(one),
            with_interval(one.candidate),
            _against(one),
            gap_or_difference(one),
            f"{one.examples:,}",
            str(one.verdict.outcome),
        )
        for one in report.rules
    )
    return Table(("rule", "candidate", "against", "better by", "examples", "verdict"), rows, frozenset({4}))


def gap_or_difference(one: RuleResult) -> str:
    """How much better the candidate is, or how wide a gap is that has no better side."""
    if one.difference is None:
        return DASH
    gap = one.rule.max_gap is not None or one.rule.max_overfit is not None
    return ("gap " if gap else "") + with_interval(one.difference, difference=not gap)


def _against(one: RuleResult) -> str:
    if one.other is None:
        return DASH
    return with_interval(one.other) + ("" if one.against == "champion" else f" ({one.against})")


def variants(report: CompressionReport) -> Table:
    """Each variant: what it costs and what it loses."""
    metric = next(iter(report.max_drop), None)
    headers = ("variant", "p50, ms", "p99, ms", f"per s at {report.batch_size}", "load, ms", "memory, MB", "size",
               f"drop in {metric}" if metric else "drop", "cost")  # fmt: skip
    rows = tuple(_variant(one, metric) for one in report.variants)
    marked = frozenset(at for at, one in enumerate(report.variants) if one.name == report.chosen)
    return Table(headers, rows, frozenset(range(1, 9)), marked)


def _variant(one: VariantResult, metric: str | None) -> tuple[str, ...]:
    if one.failure is not None:
        return (one.name, *([DASH] * 8))
    drop = one.drop.get(metric) if metric else None
    return (
        one.name,
        _shown(one.p50_ms),
        _shown(one.p99_ms),
        DASH if one.throughput is None else f"{one.throughput:,.0f}",
        DASH if one.load_s is None else f"{one.load_s * 1000:.0f}",
        DASH if one.peak_memory_mb is None else f"{one.peak_memory_mb:,.0f}",
        size(one.bytes),
        DASH if drop is None else f"{signed(drop.value, 4)} ≤ {drop.high:.4f}",
        "1" if one.ratio is None else f"{one.ratio.value:.2f}×",
    )


def lineage(view: RunView) -> Table:
    """What was made of what: every digest on the way."""
    known: dict[str, str] = {}
    if view.data:
        known["data"] = view.data.fingerprint
        known |= {f"{name} split": digest for name, digest in view.data.digests.items()}
    if view.trained:
        known["weights"] = view.trained.digest
        if view.trained.initialized_from:
            known["initialized from"] = view.trained.initialized_from.digest
    if view.evaluation:
        known["model, uncompressed"] = view.evaluation.model
    if view.package:
        known["model, as served"] = view.package.model_digest
        known["archive"] = view.package.digest
    if view.version:
        known["registered version"] = view.version.digest
    return Table(("what", "sha256"), tuple((what, digest.removeprefix("sha256:")) for what, digest in
                                           (known | dict(view.lineage)).items() if digest))  # fmt: skip


def interval(one: Metric | Estimate) -> str:
    """`0.91 to 0.95`."""
    return f"{number(one.low)} to {number(one.high)}"


def with_interval(one: Metric, *, difference: bool = False) -> str:
    """`0.9315 [0.91, 0.95]`; a dash where nothing was measured."""
    if math.isnan(one.value):
        return DASH
    if one.method == "exact":
        return number(one.value)
    value, low, high = (change(each, 3) if difference else number(each) for each in (one.value, one.low, one.high))
    return f"{value} [{low}, {high}]".replace("-", "−")


def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest.removeprefix("sha256:")[:12]


def size(count: int | None) -> str:
    """Bytes with their unit."""
    if count is None:
        return DASH
    power = min(3, int(math.log10(max(1, count))) // 3)
    return f"{number(count / 1000**power, 3)} {('B', 'kB', 'MB', 'GB')[power]}"


def _shown(value: float | None) -> str:
    return DASH if value is None else number(value, 3)
