"""The simulation's tables as plots, for docs/canary-analysis.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from modelyard.reports.canvas import ACCENT, BAD, GOOD, LINE, MUTED, SECOND, WIDTH, svg

NAMES = {"errors": "how often it errs", "times": "how long it takes", "rules": "beside other rules"}


def draw(results: dict[str, list[Any]], judged: Sequence[Any], folder: Path) -> None:
    """Write `canary-analysis-….svg` for each table that was made."""
    if results["aborts"] and results["successes"]:
        _write(folder, "errors", 60 + 21 * len(results["successes"]), lambda figure: _errors(figure, results))
    if results["regressions"] and results["good"]:
        rows = [one for one in results["regressions"] if (one.outcome == 1).mean() > 0.5]
        rows += [one for one in results["good"] if (one.outcome == 2).mean() > 0.5]
        _write(folder, "times", 90 + 22 * len(rows), lambda figure: _times(figure, rows))
    if judged:
        _write(folder, "rules", 70 + 19 * len(judged), lambda figure: _rules(figure, judged))


def _write(folder: Path, name: str, height: int, fill: Any) -> None:
    (folder / f"canary-analysis-{name}.svg").write_text(str(svg(WIDTH, height, fill, label=NAMES[name])))


def _errors(figure: Figure, results: dict[str, list[Any]]) -> None:
    sides = (
        (results["aborts"], 1, 0.005, "as good, but aborted"),
        (results["successes"], 2, 0.05, "at the margin, but let through"),
    )
    for column, (rows, outcome, allowed, title) in enumerate(sides):
        axes = figure.add_axes((0.3 if column == 0 else 0.67, 0.1, 0.31, 0.82))
        for at, row in enumerate(rows):
            share, high = row.share(outcome)
            axes.plot([100 * share, 100 * high], [at, at], color=ACCENT, linewidth=1.4)
            axes.plot([100 * share], [at], "o", color=ACCENT, markersize=5)
        axes.axvline(100 * allowed, color=BAD, linestyle=(0, (4, 3)), linewidth=1.2)
        axes.set_title(f"{title}, %", pad=8)
        axes.set_xlim(0, 120 * allowed)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        names = [row.scene.name for row in results["aborts"]] if column == 0 else []
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="x")
        axes.tick_params(length=0)
    figure.text(0.3, 0.012, "dot: share; bar: up to the end of its 99 % interval; dashed: allowed", color=MUTED)


def _times(figure: Figure, rows: Sequence[Any]) -> None:
    axes = figure.add_axes((0.46, 0.06, 0.51, 0.89))
    for at, row in enumerate(rows):
        done = row.total[row.outcome == (2 if row.scene.canary <= row.scene.base and row.scene.slower <= 1 else 1)]
        low, middle, high = np.quantile(done, [0.1, 0.5, 0.9])
        axes.plot([low, high], [at, at], color=ACCENT, linewidth=1.4)
        axes.plot([middle], [at], "o", color=ACCENT, markersize=6, label="ours: 10, 50, 90 %" if at == 0 else None)
        others = ((row.told, "D", SECOND, 5, "told both rates"), (row.sprt, "|", MUTED, 9, "Wald's, told"))
        for values, shape, colour, size, label in others:
            if (values > 0).mean() > 0.5:
                middle = np.median(values[values > 0])
                axes.plot([middle], [at], shape, color=colour, markersize=size, label=label if at == 0 else None)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [row.scene.name for row in rows])
    axes.set_title("requests until the verdict", pad=8)
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.legend(frameon=False, loc="center right", fontsize=11)


def _rules(figure: Figure, judged: Sequence[Any]) -> None:
    axes = figure.add_axes((0.52, 0.05, 0.44, 0.91))
    place, names, ticks, last = 0.0, [], [], ""
    for ends in judged:
        if ends.traffic.name != last:
            place, last = place + (0.7 if last else 0.0), ends.traffic.name
        aborted, promoted = (float((ends.outcome == outcome).mean()) for outcome in (1, 2))
        wrong = ends.traffic.worse == 0
        axes.barh(place, aborted, color=BAD if wrong else GOOD, height=0.8)
        axes.barh(place, promoted, left=aborted, color=GOOD if wrong else BAD, height=0.8, alpha=0.45)
        axes.barh(place, 1 - aborted - promoted, left=aborted + promoted, color=LINE, height=0.8)
        names.append(f"{ends.traffic.name}: {ends.rule}" if ends.rule == "Modelyard" else ends.rule)
        ticks.append(place)
        place += 1
    axes.set_yticks(ticks, names, fontsize=10)
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.set_title("full: aborted; pale: promoted; red: wrong", pad=8)
    axes.tick_params(length=0)
