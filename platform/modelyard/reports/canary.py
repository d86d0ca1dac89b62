"""The canary's analysis over time: the weights, what both arms did, and the evidence beside the bounds that decide."""

import math
import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from modelyard.figures import number
from modelyard.reports.canvas import ACCENT, BAD, GOOD, LINE, MUTED, PAPER, WIDTH, svg
from modelyard.reports.markup import Markup
from modelyard.rollout.analysis import alarm_threshold, success_threshold
from modelyard.rollout.evidence import Mark
from modelyard.rollout.explain import evidence_of
from modelyard.rollout.words import range_of
from modelyard.spec.check_classes import DRIFT
from modelyard.spec.deployment import AnalysisMetric
from modelyard.spec.rollout import ModelRollout, Phase

LEFT, RIGHT = 0.07, 0.985
_WEIGHT = re.compile(r"Weight(\d+)")


def weights_of(rollout: ModelRollout) -> tuple[tuple[float, int], ...]:
    """When the router had confirmed which share for the new arm: (seconds since the attempt's start, percent)."""
    start = rollout.status.started_at
    steps = [(0.0, 0)]
    for event in rollout.status.timeline:
        name, at = str(event.get("event", "")), float(event.get("at", start)) - start
        known = _WEIGHT.fullmatch(name)
        if known:
            steps.append((at, int(known[1])))
        elif name == "WeightZeroConfirmed":
            steps.append((at, 0))
    return tuple(steps)


def weights_and_evidence(rollout: ModelRollout) -> Markup | None:
    """The plot; None where neither a weight nor evidence was recorded."""
    evidence = evidence_of(rollout)
    history = evidence.history if evidence else ()
    steps = weights_of(rollout)
    if len(steps) < 2 and not history:
        return None
    start, metrics = rollout.status.started_at, [metric.name for metric in rollout.spec.serving.analysis.metrics]
    asked = {metric.name: metric for metric in rollout.spec.serving.analysis.metrics if metric.query is not None}
    marks = {name: [mark for mark in history if mark.metric == name] for name in metrics}
    shown = [name for name in metrics if marks[name]]
    end = max(
        [at for at, _ in steps] + [mark.at - start for mark in history] + [(rollout.status.ended_at or start) - start]
    )
    unit, per = ("seconds", 1.0) if end < 180 else ("minutes", 60.0)
    height = 130 + 195 * len(shown) + 40

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(
            1 + len(shown), 2, height_ratios=[95, *[155] * len(shown)], left=LEFT, right=RIGHT, top=1 - 28 / height,
            bottom=50 / height, hspace=0.48, wspace=0.2,
        )  # fmt: skip
        weights = figure.add_subplot(grid[0, :])
        _weights(weights, steps, end, per, rollout)
        for row, name in enumerate(shown, start=1):
            shares, evidences = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
            _shares(shares, name, marks[name], start, per, asked=asked.get(name))
            _evidence(evidences, marks[name], start, per, rollout)
            for axes in (shares, evidences):
                axes.set_xlim(0, end / per * 1.02)
                _quiet(axes)
            if row == len(shown):
                shares.set_xlabel(f"{unit} since the attempt began")
        if not shown:
            weights.set_xlabel(f"{unit} since the attempt began")

    return svg(WIDTH, height, draw, label="the canary's weight, both arms, and the evidence over time")


def _quiet(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)


def _weights(axes: Axes, steps: Sequence[tuple[float, int]], end: float, per: float, rollout: ModelRollout) -> None:
    x = [at / per for at, _ in steps] + [end / per]
    y = [weight for _, weight in steps] + [steps[-1][1]]
    axes.fill_between(x, y, step="post", color=ACCENT, alpha=0.12, linewidth=0)
    axes.step(x, y, where="post", color=ACCENT)
    axes.set_title(f"Share of the traffic that version {rollout.spec.version} gets", pad=8)
    axes.set_ylim(0, 108)
    axes.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
    axes.set_xlim(0, end / per * 1.02)
    _quiet(axes)
    for at, weight in steps[1:]:
        if 0 < weight < 100:
            axes.annotate(
                f"{weight} %", (at / per, weight), xytext=(4, 4), textcoords="offset points", color=ACCENT, fontsize=12
            )
    turn = next((e for e in rollout.status.timeline if e.get("event") == Phase.ROLLING_BACK), None)
    if turn:
        at = (float(turn["at"]) - rollout.status.started_at) / per
        axes.axvline(at, color=BAD, linewidth=1.2)
        left = at > 0.6 * end / per
        axes.annotate("rolled back", (at, 88), xytext=(-5 if left else 5, 0), textcoords="offset points",
                      ha="right" if left else "left", color=BAD, fontsize=12)  # fmt: skip


def _shares(
    axes: Axes, name: str, marks: Sequence[Mark], start: float, per: float, *, asked: AnalysisMetric | None
) -> None:
    x = [(mark.at - start) / per for mark in marks]
    if name != DRIFT:
        axes.plot(x, [mark.stable for mark in marks], color=MUTED)
    axes.plot(x, [mark.canary for mark in marks], color=ACCENT)
    told = {"error-rate": "share of failed attempts", DRIFT: "distance of the predicted classes"}.get(
        name, "share of answers beyond the bound"
    )
    low, high = (0.0, 1.0) if asked is None else range_of(asked)
    if asked is not None:
        told = "share that a query counts" if (low, high) == (0.0, 1.0) else "mean of what a query adds up"
    axes.set_title(f"{name}: {told}", pad=8)
    top = max([0.01, *(share for mark in marks for share in (mark.stable, mark.canary) if math.isfinite(share))])
    axes.set_ylim(-0.02 * top, min(top * 1.25, 1.12))
    axes.set_yticks([tick for tick in MaxNLocator(nbins=4).tick_values(0, top) if tick <= 1])
    axes.yaxis.set_major_formatter(
        PercentFormatter(1, decimals=None if top > 0.03 else 1)
        if (low, high) == (0.0, 1.0)
        else FuncFormatter(lambda share, _: number(low + share * (high - low), 3))
    )
    ends = [(marks[-1].stable, "stable", MUTED), (marks[-1].canary, "canary", ACCENT)]
    _tags(axes, ends[name == DRIFT :], x[-1])


def _evidence(axes: Axes, marks: Sequence[Mark], start: float, per: float, rollout: ModelRollout) -> None:
    """Both E-processes as powers of ten: what crosses its dashed bound decides."""
    spec, ten = rollout.spec.serving.analysis, math.log(10)
    x = [(mark.at - start) / per for mark in marks]
    alarm, success = alarm_threshold(spec) / ten, success_threshold(spec) / ten
    # beyond twice its bound evidence says nothing more, and would press everything else flat
    ceiling = 2.0 * max(alarm, success)
    for values, bound, colour, word in (
        ([mark.alarm / ten for mark in marks], alarm, BAD, "worse"),
        ([mark.success / ten for mark in marks], success, GOOD, "as good"),
    ):
        axes.axhline(bound, color=colour, linewidth=1.1, linestyle=(0, (4, 3)), alpha=0.8)
        axes.plot(x, [max(-2.0, min(value, ceiling)) for value in values], color=colour)
        axes.annotate(
            f"enough for “{word}”: {_times(bound)}", (0.012, bound), xycoords=("axes fraction", "data"), xytext=(0, 4),
            textcoords="offset points", color=colour, fontsize=11,
            bbox={"facecolor": PAPER, "alpha": 0.75, "linewidth": 0, "pad": 0.5},
        )  # fmt: skip
    axes.axhline(0, color=LINE, linewidth=1)
    axes.set_ylim(-2.1, ceiling * 1.08)
    axes.set_title("Evidence, as odds against chance", pad=8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _times(value)))


def _times(power: float) -> str:
    """A power of ten as odds: 2.3 is `200×`."""
    odds = 10**power
    return f"{odds:,.0f}×" if odds >= 1 else f"1/{1 / odds:,.0f}"


def _tags(axes: Axes, ends: Sequence[tuple[float, str, str]], x: float) -> None:
    low, high = axes.get_ylim()
    last = -math.inf
    for value, name, colour in sorted(ends):
        last = max(value + (high - low) * 0.05, last + (high - low) * 0.11)
        axes.annotate(
            name, (x, last), xytext=(-3, 0), textcoords="offset points", ha="right", color=colour, fontsize=12
        )
