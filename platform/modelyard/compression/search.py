"""What is tried, and what is tried next: the search over variants and their settings.

Pure. It is a race. All families start with settings that suit most models. Of those that were built and judged, only
one that is at least as fast as the best so far has its settings changed, in the direction that its drop asks for: one
that loses too much gets more calibration and keeps its most sensitive layers in fp32, twice as many each time; one
that loses little is cut deeper. On the clock the slower half leaves after each rung, and the time that it would have
taken measures the others (successive halving: Jamieson and Talwalkar, arXiv 1502.07943).
"""

from collections.abc import Mapping, Sequence
from dataclasses import field

from modelyard.compression.report import Estimate
from modelyard.record import record

CALIBRATE, KEEP, CUT = "calibrate", "keep", "cut"
"""Examples to calibrate on; sensitive layers that stay in fp32; share of the channels that go."""
USUAL: Mapping[str, float] = {CALIBRATE: 256, KEEP: 0, CUT: 0.5}
"""Ranges of activations settle after a few hundred examples."""
MOST: Mapping[str, float] = {CALIBRATE: 1024, KEEP: 8}
RUNGS = (8, 16, 32)
"""Rounds after which the slower half leaves. Fewer than 8 leave no interval."""


@record
class Candidate:
    """A variant with settings."""

    variant: str
    settings: Mapping[str, float] = field(default_factory=dict)
    """Those that are not the usual ones."""

    @property
    def name(self) -> str:
        """What it is called in reports, and its folder: `onnx-int8-keep2`.

        >>> Candidate(variant="onnx-int8", settings={"keep": 2}).name, Candidate(variant="onnx").name
        ('onnx-int8-keep2', 'onnx')
        """
        return "-".join([self.variant, *(f"{name}{value:g}" for name, value in sorted(self.settings.items()))])

    def setting(self, name: str) -> float:
        """One setting."""
        return self.settings.get(name, USUAL[name])


def follow_ups(
    candidate: Candidate,
    *,
    tunes: Sequence[str],
    drop: Mapping[str, Estimate],
    least: Mapping[str, Estimate],
    allowed: Mapping[str, float],
    seconds: float,
    best: float,
) -> tuple[Candidate, ...]:
    """What to try after a candidate was judged.

    Args:
        candidate: what was judged.
        tunes: settings of its family.
        drop: how much worse than the reference it is, by metric.
        least: the same for the reference against itself: what the examples leave open of a drop of nothing.
        allowed: the budget.
        seconds: of one of its calls.
        best: of one call of the fastest that is within the budget so far; infinite when there is none.

    Returns:
        Nothing where there is no budget, where it is slower than the best already, or where not even an exact copy
        could show that it is within the budget, because there are too few examples.
    """
    if not allowed or not seconds <= best or not _within(least, allowed):
        return ()
    if _within(drop, allowed):
        return _changed(candidate, {CUT: 0.75}) if CUT in tunes and candidate.setting(CUT) == USUAL[CUT] else ()
    if CUT in tunes and candidate.setting(CUT) == USUAL[CUT]:
        return _changed(candidate, {CUT: 0.25})
    if KEEP not in tunes:
        return ()
    more = {KEEP: max(1, 2 * candidate.setting(KEEP)), CALIBRATE: MOST[CALIBRATE]}
    return _changed(candidate, more) if more[KEEP] <= MOST[KEEP] else ()


def _within(drop: Mapping[str, Estimate], allowed: Mapping[str, float]) -> bool:
    return all(metric in drop and drop[metric].high <= allowed[metric] for metric in allowed)


def _changed(candidate: Candidate, settings: Mapping[str, float]) -> tuple[Candidate, ...]:
    return (Candidate(variant=candidate.variant, settings={**candidate.settings, **settings}),)


def survivors(costs: Mapping[str, Estimate | None], promising: Mapping[str, bool]) -> tuple[str, ...]:
    """Who goes on to the next rung: the better half, rounded up, and whoever the clock cannot tell from the best.

    Args:
        costs: cost over the reference's, by name; None or NaN where unknown.
        promising: whether the one may be chosen at all.
    """
    known = {
        name: cost for name, cost in costs.items() if promising[name] and cost is not None and cost.value == cost.value
    }
    if not known:
        return ()
    ranked = sorted(known, key=lambda name: known[name].value)
    half = ranked[: (len(ranked) + 1) // 2]
    return tuple(name for name in ranked if name in half or known[name].low <= known[ranked[0]].high)


def fitting(seconds: Mapping[str, float], left: float) -> tuple[str, ...]:
    """Which candidates can be timed in the seconds that are left: the fastest, and one in any case.

    Args:
        seconds: that the least rounds of one take, the reference's not among them.
        left: for all of them.
    """
    taken: list[str] = []
    for name in sorted(seconds, key=lambda name: seconds[name]):
        left -= seconds[name]
        if taken and left < 0:
            break
        taken.append(name)
    return tuple(taken)
