"""Where an attempt's analysis stands, in words and over time. Pure: the attempt's record in, plain records out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.rollout import drift, words
from modelyard.rollout.analysis import alarm_threshold, progress, success_threshold
from modelyard.rollout.capacity import margins_at
from modelyard.rollout.evidence import Evidence, Mark
from modelyard.spec.codec import from_data
from modelyard.spec.deployment import Analysis
from modelyard.spec.rollout import ModelRollout
from modelyard.units import Percentage

__all__ = ["Standing", "evidence_of", "guarded", "over_time", "standings"]

MOMENTS = 12
"""Rows of the table over time."""
_RECENT = 0.5
"""Part of the history from which the pace is taken."""


@record
class Standing:
    """One metric at its margin."""

    metric: str
    margin: str
    stable: float
    """Its share of hits: failed attempts, or answers beyond the bound."""
    canary: float
    stable_requests: int
    canary_requests: int
    bound_ms: float
    """Of a latency; else 0."""
    what: str
    """What is said of the hits: ` failed`; nothing where a query counts them."""
    bounds: tuple[float, float]
    """Of a mean, what its values can be: shares are of the way from the first to the second. Else 0 and 1."""
    worse: float
    """Evidence that the canary is worse than stable: an E-value, the odds that chance alone would have to beat."""
    worse_needed: float
    good: float
    """Evidence that it is not worse by the margin."""
    good_needed: float
    words: str


def evidence_of(attempt: ModelRollout) -> Evidence | None:
    """The analysis' checkpoint; None where there is none, or one of another time that this code cannot read."""
    if not attempt.status.analysis:
        return None
    try:
        return from_data(Evidence, attempt.status.analysis)
    except BadInput:
        return None


def standings(attempt: ModelRollout) -> tuple[Standing, ...]:
    """Each metric at the current step's margin; none without evidence."""
    evidence, spec = evidence_of(attempt), attempt.spec.serving.analysis
    if evidence is None:
        return ()
    margins = margins_at(attempt.spec.steps, attempt.status.step)
    return tuple(_standing(evidence, spec, metric.name, margins) for metric in spec.metrics)


def guarded(attempt: ModelRollout) -> tuple[str, ...]:
    """One line for each guardrail: what the canary did, the limit, and how far the evidence is."""
    evidence, spec = evidence_of(attempt), attempt.spec.serving.analysis
    return () if evidence is None else progress(evidence, spec)[len(spec.metrics) :]


def over_time(attempt: ModelRollout, moments: int = MOMENTS) -> tuple[Mark, ...]:
    """Marks of at most so many moments, evenly spread over the history, the last one among them."""
    evidence = evidence_of(attempt)
    history = evidence.history if evidence else ()
    times = sorted({mark.at for mark in history})
    step = max(1, math.ceil(len(times) / moments))
    kept = set(times[::-1][::step])
    return tuple(mark for mark in history if mark.at in kept)


def _standing(evidence: Evidence, spec: Analysis, name: str, margins: Mapping[str, Percentage]) -> Standing:
    metric = next(one for one in spec.metrics if one.name == name)
    value = margins.get(name, metric.margin.value)
    tally, trial = evidence.tallies[name], evidence.trial(name, value)
    worse, good = evidence.alarm(name).log_e, trial.log_e if trial else 0.0
    marks = [mark for mark in evidence.history if mark.metric == name]
    return Standing(
        metric=name,
        margin=words.allowed(replace(metric.margin, value=value), metric),
        stable=tally.stable_share,
        canary=tally.canary_share,
        stable_requests=tally.stable,
        canary_requests=tally.canary,
        bound_ms=tally.bound,
        what=words.what(metric, tally),
        bounds=words.range_of(metric),
        worse=_e(worse),
        worse_needed=_e(alarm_threshold(spec)),
        good=_e(good),
        good_needed=_e(success_threshold(spec)),
        words=_words(evidence, spec, name, (worse, good), beyond=trial is not None and trial.beyond, marks=marks),
    )


def _words(
    evidence: Evidence, spec: Analysis, name: str, logs: tuple[float, float], *, beyond: bool, marks: Sequence[Mark]
) -> str:
    (worse, good), (enough_worse, enough_good) = logs, (alarm_threshold(spec), success_threshold(spec))
    counted, where = evidence.counted(name), drift.most(evidence) if name == drift.NAME else ""
    gone = f"; now {evidence.missing[name]}" if name in evidence.missing else ""
    if counted == 0:
        why = drift.why_nothing(evidence) if name == drift.NAME else evidence.missing.get(name, "")
        return f"nothing was compared yet{why and '; '}{why}"
    if counted < spec.min_requests:
        return f"{counted} comparable requests of {spec.min_requests} that a verdict needs{gone}"
    if worse >= enough_worse:
        return f"{'other' if name == drift.NAME else 'worse'} than stable{where}, " + (
            "and beyond the margin" if beyond else "but by all that is seen within the margin"
        )
    if good >= enough_good:
        return "not worse by the margin: shown"
    leaning = "seems to be beyond the margin" if beyond else "nothing speaks against it"
    more = _more(marks, enough_worse - worse if beyond else enough_good - good, alarm=beyond)
    return f"open; {leaning}{more}{where}{gone}"


def _more(marks: Sequence[Mark], missing: float, *, alarm: bool) -> str:
    """How many more requests of the canary it takes at the pace of late."""
    if len(marks) < 3:
        return ""
    last, first = marks[-1], marks[int(len(marks) * (1 - _RECENT))]
    requests = last.canary_requests - first.canary_requests
    gained = (last.alarm - first.alarm) if alarm else (last.success - first.success)
    if requests <= 0 or gained <= 0:
        return ", but the evidence does not grow"
    return f"; at this pace the canary has to answer about {_round(missing / gained * requests):,} more requests"


def _round(number: float) -> int:
    """Two digits."""
    size = int(10 ** max(0, math.floor(math.log10(max(number, 1))) - 1))
    return math.ceil(number / size) * size


def _e(log: float) -> float:
    return float(f"{math.exp(min(log, 700.0)):.3g}")
