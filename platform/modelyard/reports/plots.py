"""The plots of a report. Each says one thing; what is better, chosen or beyond a bound can be seen without a legend."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from modelyard.compression.report import CompressionReport, VariantResult
from modelyard.evaluation.report import Bin, EvaluationReport
from modelyard.figures import number
from modelyard.reports.canvas import ACCENT, BAD, GOOD, INK, LINE, MUTED, PAPER, SECOND, WIDTH, svg
from modelyard.reports.markup import Markup
from modelyard.statistics.intervals import wilson
from modelyard.training.job import TrainedModel

MOST_CLASSES = 24
NUMBERED = 14


def balance(spread: Mapping[str, Mapping[str, int]]) -> Markup:
    """Share of each class: bars for the train split, ticks for the others; where splits agree, they meet."""
    totals: dict[str, int] = {}
    for counts in spread.values():
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    names = (
        sorted(totals, key=lambda name: -totals[name])[:MOST_CLASSES] if len(totals) > MOST_CLASSES else list(totals)
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        shares = {
            split: [counts.get(name, 0) / max(1, sum(counts.values())) for name in names]
            for split, counts in spread.items()
        }
        places = range(len(names))
        axes.barh(places, shares.get("train", []), height=0.62, color=INK, alpha=0.16)
        for split, colour in (("validation", ACCENT), ("test", SECOND)):
            axes.plot(shares.get(split, []), places[: len(shares.get(split, []))], "|", color=colour, markersize=13,
                      markeredgewidth=2.4)  # fmt: skip
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlim(0, None)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        height, longest = len(names) * 22 + 40, max(len(_short(name)) for name in names)
        figure.subplots_adjust(left=(longest * 7.5 + 16) / WIDTH, right=0.985, top=1 - 4 / height, bottom=28 / height)

    return svg(WIDTH, len(names) * 22 + 40, draw, label="share of each class in each split")


def curves(trained: TrainedModel) -> Markup:
    """Loss and validation metrics over the epochs, the kept epoch marked."""
    names = sorted({name for point in trained.epochs for name in point.validation_metrics})[:4]
    validation = [math.nan if p.validation_loss is None else p.validation_loss for p in trained.epochs]
    losses = {"training": [point.train_loss for point in trained.epochs], "validation": validation}
    metrics = {name: [p.validation_metrics.get(name, math.nan) for p in trained.epochs] for name in names}

    def draw(figure: Figure) -> None:
        both = figure.subplots(1, 2 if metrics else 1, squeeze=False)[0]
        _lines(both[0], "Loss", losses, [MUTED, ACCENT], trained)
        if metrics:
            _lines(both[1], "On the validation split", metrics, [ACCENT, SECOND, GOOD, MUTED], trained)
        figure.subplots_adjust(left=0.07, right=0.9, top=0.88, bottom=0.17, wspace=0.42)

    return svg(WIDTH, 280, draw, label="training curves")


def _lines(
    axes: Axes, title: str, lines: Mapping[str, Sequence[float]], colours: Sequence[str], trained: TrainedModel
) -> None:
    x, best = [point.epoch for point in trained.epochs], trained.best_epoch
    axes.set_title(title, pad=10)
    axes.axvline(best, color=LINE, linewidth=1, linestyle=(0, (3, 3)))
    ends = []
    for (name, values), colour in zip(lines.items(), colours, strict=False):
        axes.plot(x, values, color=colour, marker="o" if len(x) < 2 else None, markersize=4)
        at_best = [value for epoch, value in zip(x, values, strict=True) if epoch == best and math.isfinite(value)]
        axes.plot([best] * len(at_best), at_best, "o", color=colour, markersize=5, markeredgecolor=PAPER)
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            ends.append((finite[-1], name, colour))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.02, y=0.08)
    _end_labels(axes, x[-1] if x else 1, ends)


def _end_labels(axes: Axes, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines at their ends, pushed apart where they end together."""
    low, high = axes.get_ylim()
    apart = (high - low) * 0.075
    last = -math.inf
    for value, name, colour in sorted(ends):
        last = max(value, last + apart)
        axes.annotate(
            _short(name, 18), (x, last), xytext=(7, 0), textcoords="offset points", color=colour, va="center",
            fontsize=12, annotation_clip=False,
        )  # fmt: skip


def confusion(report: EvaluationReport) -> Markup:
    """Which class was taken for which: right answers in the accent colour, mistakes in red, each row its own scale."""
    table, names = report.confusion, report.classes
    size = len(table)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for row, counts in enumerate(table):
            total = max(1, sum(counts))
            for column, times in enumerate(counts):
                right = row == column
                if times:
                    # the root makes a single mistake visible beside ninety right answers
                    shade = 0.12 + 0.78 * (times / total) ** 0.5
                    axes.add_patch(
                        Rectangle(
                            (column - 0.47, row - 0.47), 0.94, 0.94, color=ACCENT if right else BAD, alpha=shade, lw=0
                        )
                    )
                if size <= NUMBERED:
                    light = bool(times) and right and times / total > 0.3
                    axes.text(
                        column, row, str(times) if times else "·", ha="center", va="center", fontsize=12,
                        color=PAPER if light else INK if times else LINE,
                    )  # fmt: skip
        shown = size <= 40
        axes.set_xticks(range(size), [_short(name, 8) for name in names] if shown else [""] * size)
        axes.set_yticks(range(size), [_short(name, 12) for name in names] if shown else [""] * size)
        if size > NUMBERED or max((len(name) for name in names), default=0) > 3:
            axes.tick_params(axis="x", labelrotation=90)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("answered")
        axes.set_ylabel("was")
        figure.tight_layout(pad=0.4)

    return svg(390, 390, draw, label="confusion matrix")


def calibration(bins: Sequence[Bin]) -> Markup:
    """How often answers of a given score were right; on the diagonal a score is what it says."""

    def draw(figure: Figure) -> None:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1.2, linestyle=(0, (4, 3)))
        most = max(one.count for one in bins) ** 0.5
        for one in (one for one in bins if one.count):
            bounds = wilson(round(one.accuracy * one.count), one.count, 0.95)
            axes.plot([one.score] * 2, [bounds.low, bounds.high], color=ACCENT, linewidth=1.6, alpha=0.45)
            # dots grow with what stands behind them, so that a bin of two answers does not shout
            axes.plot(
                one.score, one.accuracy, "o", color=ACCENT, markersize=3.5 + 7 * one.count**0.5 / most, clip_on=False
            )
        axes.set_ylabel("share that was right")
        axes.text(0.97, 0.06, "too sure", transform=axes.transAxes, ha="right", color=MUTED, fontsize=12)
        axes.text(0.03, 0.91, "not sure enough", transform=axes.transAxes, color=MUTED, fontsize=12)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid()
        below.bar(
            [one.low for one in bins], [one.count for one in bins], [(one.high - one.low) * 0.92 for one in bins],
            align="edge", color=MUTED, alpha=0.5,
        )  # fmt: skip
        below.set_yticks([])
        below.spines["left"].set_visible(False)
        below.set_xlabel("score of the answer; bars: how many")
        for one in (axes, below):
            one.tick_params(length=0)
            one.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.subplots_adjust(left=0.17, right=0.955, top=0.98, bottom=0.12, hspace=0.12)

    return svg(350, 390, draw, label="calibration: how often answers of a given score were right")


def strip(*, low: float, value: float, high: float, limit: float, above_is_good: bool, colour: str) -> Markup:
    """An interval beside the limit that it is held against; the good side is shaded."""

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.01, 0.05, 0.98, 0.9))
        ends = [number for number in (low, value, high, limit) if math.isfinite(number)]
        room = (max(ends) - min(ends)) * 0.18 or abs(limit) * 0.1 or 1.0
        left, right = min(ends) - room, max(ends) + room
        good = (limit, right) if above_is_good else (left, limit)
        axes.axvspan(*good, color=GOOD, alpha=0.10, linewidth=0)
        axes.axvline(limit, color=INK, linewidth=1.2)
        if all(math.isfinite(number) for number in (low, high)):
            axes.plot([low, high], [0, 0], color=colour, linewidth=2.4)
        if math.isfinite(value):
            axes.plot(value, 0, "o", color=colour, markersize=7, markeredgecolor=PAPER, markeredgewidth=1.5)
        axes.set_xlim(left, right)
        axes.set_ylim(-1, 1)
        axes.axis("off")

    return svg(200, 26, draw, label=f"{number(value)}, between {number(low)} and {number(high)}, limit {number(limit)}")


def pareto(report: CompressionReport) -> Markup | None:
    """Latency of each variant against what it loses; None where nothing can be drawn."""
    metric = next(iter(report.max_drop), None)
    drawn = [one for one in report.variants if one.failure is None and one.p50_ms]
    if metric is None or len(drawn) < 2:
        return None
    allowed = report.max_drop[metric]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.095, right=0.985, top=0.98, bottom=0.16)
        bounds = [one.drop[metric].high for one in drawn if metric in one.drop and math.isfinite(one.drop[metric].high)]
        lows = [one.drop[metric].low for one in drawn if metric in one.drop and math.isfinite(one.drop[metric].low)]
        top = max([allowed, *bounds]) * 1.18 or 0.01
        bottom = min([0.0, *lows]) - 0.12 * top
        axes.set_ylim(bottom, top)
        axes.axhspan(allowed, top, color=BAD, alpha=0.07, linewidth=0)
        axes.axhline(allowed, color=BAD, linewidth=1.2)
        axes.axhline(0, color=LINE, linewidth=1)
        _log_when_wide(axes, [one.p50_ms or 0.0 for one in drawn])
        axes.annotate(f"budget {allowed:g}", (1, allowed), xycoords=("axes fraction", "data"), xytext=(-4, 5),
                      textcoords="offset points", ha="right", color=BAD, fontsize=12)  # fmt: skip
        for one in drawn:
            _point(axes, one, metric, report)
        _point_labels(axes, drawn, metric, report)
        axes.set_xlabel("latency of a lone request, p50 (ms)")
        axes.set_ylabel(f"drop in {metric}")
        axes.grid(axis="x")
        axes.tick_params(length=0)

    return svg(WIDTH, 340, draw, label=f"variants: latency against the drop in {metric}")


def _log_when_wide(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if high > 6 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.5, high * 2.2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_xlim(0, high * 1.22)


def _point(axes: Axes, one: VariantResult, metric: str, report: CompressionReport) -> None:
    x = one.p50_ms or 0.0
    drop = one.drop.get(metric)
    chosen = one.name == report.chosen
    colour = ACCENT if chosen else INK if one.name == report.reference or one.within_budget else MUTED
    y = drop.value if drop else 0.0
    if drop:
        axes.plot([x, x], [drop.low, drop.high], color=colour, linewidth=1.6, alpha=0.6)
        axes.plot(x, drop.high, "_", color=colour, markersize=9, markeredgewidth=1.6)
    if chosen:
        axes.plot(x, y, "o", markersize=16, markerfacecolor="none", markeredgecolor=ACCENT, markeredgewidth=1.4)
    marker = "D" if one.name == report.reference else "o"
    hollow = not (one.within_budget or one.name == report.reference)
    axes.plot(x, y, marker, markersize=7, markerfacecolor=PAPER if hollow else colour, markeredgecolor=colour,
              markeredgewidth=1.5)  # fmt: skip


Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


def _point_labels(axes: Axes, drawn: Sequence[VariantResult], metric: str, report: CompressionReport) -> None:
    """Names beside the points, each at the first place where it covers nothing."""
    points = []
    taken: list[Box] = []
    for one in drawn:
        drop = one.drop.get(metric)
        low, value, high = (drop.low, drop.value, drop.high) if drop else (0.0, 0.0, 0.0)
        (x, y), bottom, top = (
            axes.transData.transform((one.p50_ms or 0.0, value)),
            *(float(axes.transData.transform((one.p50_ms or 0.0, end))[1]) for end in (low, high)),
        )
        points.append((one, float(x), float(y)))
        taken += [(x - 8, y - 8, x + 8, y + 8), (x - 4, bottom, x + 4, top)]
    for one, x, y in sorted(points, key=lambda point: point[1]):
        width = 7.6 * len(one.name)
        places = [(x + side, y + up) for up in (14, -14, 30, -30, 46, -46) for side in (12, -12 - width)]
        boxes = [(left, middle - 8, left + width, middle + 8) for left, middle in places]
        box = next((box for box in boxes if not any(_overlap(box, other) for other in taken)), boxes[0])
        taken.append(box)
        chosen = one.name == report.chosen
        axes.annotate(
            one.name, (x, y), xycoords="figure pixels", xytext=(box[0] - x, (box[1] + box[3]) / 2 - y), fontsize=12.5,
            textcoords="offset points", va="center", fontweight="bold" if chosen else "normal", annotation_clip=False,
            color=ACCENT if chosen else INK if one.within_budget or one.name == report.reference else MUTED,
        )  # fmt: skip


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
