"""Is the canary as good as stable? Asked as often as one likes, with error rates that hold over the whole rollout.

Each metric is an exceedance: `error-rate` counts failed attempts, `latency-p90` answers slower than a bound that is
picked from *earlier* stable traffic. Two kinds of E-processes (`modelyard.statistics.evalues`) run on blocks of counts:

- **alarm**, one for each metric, against "the canary is as good": its share beyond a bound is at most stable's share
  beyond the same bound. Failed needs this E-process at `metrics / falseAlarmRate` (Bonferroni) *and* the best estimate
  to be beyond the margin. So a version that is as good is aborted with chance at most `falseAlarmRate`, over all looks
  and metrics; one that is worse, but within its margin, is seldom aborted. (An alarm only when "within the margin" is
  refuted would stop a canary with 10 % errors under a margin of 5 points after some 260 of its requests; this does
  after some 20.)
- **success**, one for each metric and each of its margins, against "the canary is worse by at least the margin".
  Successful needs every metric at `1 / missRate`: as each must be refuted, nothing is shared. For error rates the null
  is θ_c ≥ θ_s + margin (Relative: θ_c ≥ (1 + margin)·θ_s). For latency it is: the canary's share over y is at least
  stable's share over x, where y is the *last* bound ≤ (1 + margin)·x. A canary that is slower by the margin's factor or
  more is in this null, so `missRate` holds for it; with the first bound above it would not.

`prediction-drift` compares the classes that both arms predict; its two E-processes stand in `modelyard.rollout.drift`.

Evidence is carried on when the margin changes by step: all margins of all steps are tested from the first request on.
What is assumed: requests of a block are independent given their arm, and the router deals them out by chance. With
`bursts`, the second half is enough: time blocks are compared instead (`modelyard.rollout.bursts`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelyard.figures import duration
from modelyard.rollout import bets, bursts, drift, guardrails, pairs, streams
from modelyard.rollout.checks import LATENCY_BOUNDS_MS, check
from modelyard.rollout.evidence import Alarm, Evidence, Mark, Tally, Trial, thinned
from modelyard.rollout.streams import Closed, Read, Reading, Stream
from modelyard.rollout.words import power, sides
from modelyard.spec.deployment import Analysis, AnalysisMetric, AnalysisStep, MetricMargin, Step
from modelyard.units import Percentage
from modelyard.verdict import Outcome, Reason, Verdict

__all__ = [
    "LATENCY_BOUNDS_MS",
    "Evidence",
    "alarm_threshold",
    "begin",
    "check",
    "look",
    "progress",
    "success_threshold",
    "verdict",
]


SPENT = 0.85
"""Part of `missRate` that success may spend. The proof needs no reserve; what it takes as given does: bounds of
latencies come from the past. It costs a twentieth of the requests, and lets a simulation show the promise kept."""
_CARRIED = 3.0
"""Evidence of success, in nats above its threshold, that is carried on."""

_REASONS = {"error-rate": Reason.ERROR_RATE, drift.NAME: Reason.PREDICTION_DRIFT}
"""Of a failure, by metric; else it is a latency."""

Margins = Mapping[str, Percentage]


def begin(spec: Analysis, *, now: float, steps: Sequence[Step] = ()) -> Evidence:
    """Evidence before the first request. All margins of the analysis steps are tested from the first request on.

    Raises:
        BadInput: the spec cannot be analysed (`check`).
    """
    check(spec, LATENCY_BOUNDS_MS, steps=steps)
    stream = Stream(
        warmup_left=spec.warmup_requests, opened_at=now, block_s=round(bursts.PER_BURST * spec.bursts.seconds, 3)
    )
    evidence = Evidence(
        began_at=now,
        attempts=stream,
        answers=stream,
        predictions=stream,
        pairs={metric.name: stream for metric in spec.metrics if metric.query is not None},
        alarms=tuple(Alarm(metric=metric.name) for metric in spec.metrics),
        rails=tuple(Alarm(metric=guardrails.name_of(rail)) for rail in spec.guardrails),
        tallies={metric.name: Tally() for metric in spec.metrics},
    )
    for margins in ({}, *(step.analysis.margins for step in steps if isinstance(step, AnalysisStep))):
        evidence = _tracking(evidence, spec, margins)
    return evidence


def look(
    evidence: Evidence,
    spec: Analysis,
    *,
    now: float,
    stable: Reading | None,
    canary: Reading | None,
    margins: Margins | None = None,
    told: pairs.Both | None = None,
) -> Evidence:
    """Fold what both arms did since the last look into the evidence.

    Args:
        evidence: what `begin` or the last look gave.
        spec: the analysis.
        now: seconds since the epoch; only for the history.
        stable: counters of the stable arm, with all of its earlier traffic; None when they could not be read.
        canary: counters of the canary.
        margins: of the current step, where they are not the metrics' own.
        told: of metrics that have a source of their own, what it told of both arms.
    """
    margins = margins or {}
    before = evidence = _tracking(evidence, spec, margins)
    cap = success_threshold(spec) + _CARRIED
    evidence = _paired(evidence, spec, told, cap)
    if stable is not None and canary is not None:
        evidence = _routed(evidence, spec, stable, canary, cap)
    moved = [one for one in spec.metrics if evidence.tallies[one.name] != before.tallies[one.name]]
    marks = tuple(_mark(evidence, metric, margins, now) for metric in moved)
    return replace(evidence, history=thinned(evidence.history + marks)) if marks else evidence


def _paired(evidence: Evidence, spec: Analysis, told: pairs.Both | None, cap: float) -> Evidence:
    """Metrics that have a source of their own; what it does not give is noted."""
    arms = ("", "") if told is None else (told.stable, told.canary)
    for metric in spec.metrics:
        if metric.query is None:
            continue
        stream, heard = evidence.pairs[metric.name], pairs.heard(told, metric.name)
        found = pairs.read(stream, heard, *arms)
        missing = {name: why for name, why in evidence.missing.items() if name != metric.name}
        if isinstance(found, str):
            evidence = replace(evidence, missing={**missing, metric.name: found})
            continue
        evidence, stream, _ = _fold(evidence, stream, [metric], heard.at, found, cap=cap)
        evidence = replace(evidence, pairs={**evidence.pairs, metric.name: stream}, missing=missing)
    return evidence


def _routed(evidence: Evidence, spec: Analysis, stable: Reading, canary: Reading, cap: float) -> Evidence:
    """Metrics and guardrails that stand on the router's counters."""
    errors = [metric for metric in spec.metrics if metric.name == "error-rate"]
    latencies = [metric for metric in spec.metrics if metric.name.startswith("latency-")]
    fast = [rail for rail in spec.guardrails if rail.slower_than is None]
    slow = [rail for rail in spec.guardrails if rail.slower_than is not None]
    for name, metrics, rails, read in (
        ("attempts", errors, fast, streams.attempts),
        ("answers", latencies, slow, streams.answers),
    ):
        wanted = bool(metrics or rails)
        left, right = (read(stable), read(canary)) if wanted else (None, None)
        if left is not None and right is not None and left.bounds == right.bounds:
            at, old = max(stable.at, canary.at), evidence.attempts if name == "attempts" else evidence.answers
            evidence, stream, block = _fold(evidence, old, metrics, at, (left, right), cap=cap)
            evidence = replace(evidence, attempts=stream) if name == "attempts" else replace(evidence, answers=stream)
            evidence = evidence if block is None else guardrails.advance(evidence, left.bounds, block, rails)
        elif wanted:
            evidence = replace(evidence, ignored=evidence.ignored + 1)
    if any(metric.name == drift.NAME for metric in spec.metrics):
        evidence = drift.look(evidence, stable, canary, cap=cap)
    return evidence


def verdict(
    evidence: Evidence,
    spec: Analysis,
    *,
    now: float,
    margins: Margins | None = None,
    since: float | None = None,
) -> Verdict | None:
    """Successful, Failed or Inconclusive; None: go on.

    Args:
        evidence: what `look` gave.
        spec: the analysis.
        now: seconds since the epoch.
        margins: of the current step, where they are not the metrics' own.
        since: when the waiting for this verdict began, from which `maxDuration` counts; else the evidence's beginning.
    """
    margins = margins or {}
    over = _over(evidence, spec)
    if over is not None:
        return over
    enough = [metric for metric in spec.metrics if evidence.counted(metric.name) >= spec.min_requests]
    for metric in enough:
        alarm, trial = evidence.alarm(metric.name), evidence.trial(metric.name, _margin(metric, margins).value)
        if alarm.log_e >= alarm_threshold(spec) and trial is not None and trial.beyond:
            reason = Reason.METRIC if metric.query is not None else _REASONS.get(metric.name, Reason.LATENCY)
            shown = f"evidence of worse {power(alarm.log_e)} ≥ {power(alarm_threshold(spec))}"
            return _said(Outcome.FAILED, reason, f"{sides(evidence, metric, _margin(metric, margins))}; {shown}")
    trials = [evidence.trial(metric.name, _margin(metric, margins).value) for metric in enough]
    logs = [trial.log_e if trial is not None else 0.0 for trial in trials]
    if logs and len(logs) == len(spec.metrics) and min(logs) >= success_threshold(spec):
        weakest = enough[logs.index(min(logs))]
        shown = f"evidence of not worse {power(min(logs))} ≥ {power(success_threshold(spec))}"
        message = f"{sides(evidence, weakest, _margin(weakest, margins))}; {shown}"
        return _said(Outcome.SUCCESSFUL, Reason.ANALYSIS_SUCCESSFUL, message)
    waited = now - (evidence.began_at if since is None else since)
    if waited < spec.max_duration.seconds:
        return None
    few = [metric.name for metric in spec.metrics if metric not in enough]
    if few:
        counted = evidence.counted(few[0])
        message = f"{few[0]}: {counted} comparable requests < minRequests {spec.min_requests} after {duration(waited)}"
        if why := evidence.missing.get(few[0]):
            message = f"{message}; {why}"
        if few[0] == drift.NAME and (why := drift.why_nothing(evidence)):
            message = f"{message}; {why}"
        return _said(Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE, message)
    message = (
        f"{duration(waited)} ≥ maxDuration {spec.max_duration}; {'; '.join(progress(evidence, spec, margins=margins))}"
    )
    return _said(Outcome.INCONCLUSIVE, Reason.MAX_DURATION, message)


def progress(evidence: Evidence, spec: Analysis, *, margins: Margins | None = None) -> tuple[str, ...]:
    """One line for each metric: both sides, the margin, and how far the evidence is."""
    lines = []
    for metric in spec.metrics:
        trial = evidence.trial(metric.name, _margin(metric, margins or {}).value)
        good, bad = trial.log_e if trial else 0.0, evidence.alarm(metric.name).log_e
        lines.append(
            f"{sides(evidence, metric, _margin(metric, margins or {}))}; evidence of not worse {power(good)} of "
            f"{power(success_threshold(spec))}, of worse {power(bad)} of {power(alarm_threshold(spec))}"
        )
    for rail in spec.guardrails:
        log = guardrails.alarm_of(evidence, rail).log_e
        lines.append(
            f"{guardrails.seen(evidence, rail)}; evidence of more {power(log)} of {power(alarm_threshold(spec))}"
        )
    return tuple(lines)


def alarm_threshold(spec: Analysis) -> float:
    """Logarithm that an alarm must reach: all metrics and guardrails share `falseAlarmRate`."""
    return math.log((len(spec.metrics) + len(spec.guardrails)) / spec.false_alarm_rate.fraction)


def success_threshold(spec: Analysis) -> float:
    """Logarithm that each metric's success must reach."""
    return -math.log(SPENT * spec.miss_rate.fraction)


def _margin(metric: AnalysisMetric, margins: Margins) -> MetricMargin:
    return replace(metric.margin, value=margins.get(metric.name, metric.margin.value))


def _tracking(evidence: Evidence, spec: Analysis, margins: Margins) -> Evidence:
    """A copy that tests these margins too; one that is new begins with no evidence."""
    wanted = [(metric.name, _margin(metric, margins).value) for metric in spec.metrics]
    new = tuple(Trial(metric=name, margin=value) for name, value in wanted if evidence.trial(name, value) is None)
    return replace(evidence, trials=evidence.trials + new) if new else evidence


def _fold(
    evidence: Evidence,
    stream: Stream,
    metrics: Sequence[AnalysisMetric],
    at: float,
    both: tuple[Read, Read],
    *,
    cap: float,
) -> tuple[Evidence, Stream, Closed | None]:
    """Advance one stream, and all metrics that stand on it once its block is closed."""
    stream, block = streams.advance(stream, at, *both)
    if block is not None:
        if bets.ready(stream):
            for metric in metrics:
                evidence = _bet(evidence, stream, block, metric, cap)
        stream = streams.learn(stream, block)
    return evidence, stream, block


def _over(evidence: Evidence, spec: Analysis) -> Verdict | None:
    """Failed where the canary is shown to be beyond a guardrail."""
    for rail in spec.guardrails:
        alarm = guardrails.alarm_of(evidence, rail)
        counted = guardrails.counted(evidence, rail).canary
        if counted >= spec.min_requests and alarm.log_e >= alarm_threshold(spec):
            reason = Reason.ERROR_RATE if rail.slower_than is None else Reason.LATENCY
            shown = f"evidence of more {power(alarm.log_e)} ≥ {power(alarm_threshold(spec))}"
            return _said(Outcome.FAILED, reason, f"{guardrails.seen(evidence, rail)}; {shown}")
    return None


def _bet(evidence: Evidence, stream: Stream, block: Closed, metric: AnalysisMetric, cap: float) -> Evidence:
    """Multiply a metric's E-processes with what a block is worth."""
    name = metric.name
    smallest = min(trial.margin.fraction for trial in evidence.trials if trial.metric == name)
    at = bets.bounds_of(stream, name, smallest).alarm
    base, both = stream.stable.share_over(at), block.split(at, at)
    gap = bets.gap_of(metric, base, smallest)
    worths, tried = (bursts.worths, bursts.tried) if stream.block_s else (bets.worths, bets.tried)
    worth = worths(both, base, gap)
    old = evidence.tallies[name]
    tally = Tally(
        stable=old.stable + both[0].requests,
        stable_hits=old.stable_hits + both[0].hits,
        canary=old.canary + both[1].requests,
        canary_hits=old.canary_hits + both[1].hits,
        bound=stream.bounds[at],
    )
    return replace(
        evidence,
        alarms=tuple(bets.raised(alarm, worth) if alarm.metric == name else alarm for alarm in evidence.alarms),
        trials=tuple(
            tried(trial, stream, block, metric, cap=cap) if trial.metric == name else trial for trial in evidence.trials
        ),
        tallies={**evidence.tallies, name: tally},
    )


def _mark(evidence: Evidence, metric: AnalysisMetric, margins: Margins, now: float) -> Mark:
    tally = evidence.tallies[metric.name]
    trial = evidence.trial(metric.name, _margin(metric, margins).value)
    return Mark(
        at=now,
        metric=metric.name,
        stable=round(tally.stable_share, 5),
        canary=round(tally.canary_share, 5),
        alarm=round(evidence.alarm(metric.name).log_e, 3),
        success=round(trial.log_e if trial else 0.0, 3),
        stable_requests=tally.stable,
        canary_requests=tally.canary,
    )


def _said(outcome: Outcome, reason: Reason, message: str) -> Verdict:
    return Verdict(outcome=outcome, reason=reason, message=message)
