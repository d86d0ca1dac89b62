"""Is the canary as good as stable? Asked as often as one likes, answered with error rates that hold over the whole rollout.

Each metric is an exceedance: `error-rate` counts failed attempts, `latency-p90` counts answers slower than a bound that
is picked from *earlier* stable traffic. Two kinds of test supermartingales (`modelyard.statistics.evalues`) run on blocks of counts:

- **alarm**, one a metric, against "the canary is as good": its share over a bound z is at most stable's over the same z. Failed
  needs this E-process at `metrics / falseAlarmRate` *and* the best estimate beyond the margin. So an as-good version is aborted with
  chance at most `falseAlarmRate` over all looks and metrics, and one that is worse, but within its margin, is rarely aborted. (The
  other choice, to alarm only when "within the margin" is refuted, stops a canary with 10 % errors under a margin of 5 points after some
  260 of its requests; this one after some 20. The stake of a fifth is kept back for later starts, so that a
  canary that turns bad after a long good time is caught too.)
- **success**, one for each metric and each of its margins, against "the canary is worse by at least the margin". Successful
  needs all metrics at `1 / missRate`: as each must be refuted, no correction is due. For error rates the null is θ_c ≥ θ_s + margin
  (Relative: θ_c ≥ (1 + margin)·θ_s). For latency it is: canary's share over y ≥ stable's share over x, where x is the largest bound that is not
  above stable's percentile and y the last bound ≤ (1 + margin)·x. A canary that is slower by the factor 1 + margin
  or more has P(canary > y) ≥ P(stable > x), so it is in the null; with the *first* bound above, it would not be.

Evidence is carried on when the margin changes by step: all margins of all steps are tested from the first request on. Bets are made from earlier
blocks only. What is assumed: requests within a block are independent given their arm, and the router deals them out by chance.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import NamedTuple

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.rollout import streams
from modelyard.rollout.streams import Closed, Reading, Stream
from modelyard.spec.deployment import Analysis, AnalysisMetric, AnalysisStep, MetricMargin, Step
from modelyard.statistics.evalues import AS_GOOD, Block, Null, Rates, log_e, log_mean
from modelyard.units import Percentage
from modelyard.verdict import Outcome, Reason, Verdict

LATENCY_BOUNDS_MS: tuple[float, ...] = tuple(round(0.5 * 1.1 ** (step / 2), 4) for step in range(224))
"""Bounds from 0.5 ms to 20 s, each √1.1 = 1.049 times the one before: a margin of 10 % is two of them."""

HISTORY = 200
_RESERVE = 0.2
_CARRIED = 3.0
_SHRINK = 50.0
_JUDGED = 1000.0


@record
class Alarm:
    """The E-process against "the canary is as good" of one metric: a mixture over bets and over times of beginning."""

    metric: str
    blocks: int = 0
    logs: tuple[float, ...] = ()
    """Logarithm of each bet's process, with its share of the stake."""
    log_e: float = 0.0


@record
class Trial:
    """The E-process against "the canary is worse by at least the margin" of one metric at one margin."""

    metric: str
    margin: Percentage
    log_e: float = 0.0
    excess: float = 0.0
    """Sum over blocks of weight × (canary's share − the line that the margin allows)."""
    weight: float = 0.0

    @property
    def beyond(self) -> bool:
        """Whether the best estimate is that the canary is worse than the margin allows."""
        return self.excess > 0


@record
class Tally:
    """What is shown of a metric: requests and hits of both arms in all blocks. No test uses these totals."""

    stable: int = 0
    stable_hits: int = 0
    canary: int = 0
    canary_hits: int = 0
    bound: float = 0.0
    """Latency: the bound in milliseconds beyond which an answer is a hit."""


@record
class Mark:
    """A point of a metric's history, for plots: natural logarithms of both E-processes, and both arms' shares."""

    at: float
    metric: str
    stable: float
    canary: float
    alarm: float
    success: float
    stable_requests: int
    canary_requests: int


@record
class Evidence:
    """All that is kept between two looks: its size does not grow with the number of requests."""

    began_at: float
    attempts: Stream
    answers: Stream
    alarms: tuple[Alarm, ...]
    trials: tuple[Trial, ...]
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    ignored: int = 0
    """Readings that made no sense."""
    history: tuple[Mark, ...] = ()

    def trial(self, metric: str, margin: Percentage) -> Trial | None:
        """The test of a metric at a margin."""
        return next((one for one in self.trials if one.metric == metric and one.margin == margin), None)


class _Bounds(NamedTuple):
    """Indices into a stream's row: `alarm` on both arms; `stable` and `canary` for the margin."""

    alarm: int
    stable: int
    canary: int


def begin(spec: Analysis, *, now: float, steps: Sequence[Step] = ()) -> Evidence:
    """Evidence before the first request; margins of the analysis steps in `steps` are tested from the first request on.

    Raises:
        BadInput: the spec cannot be analysed (`check`).
    """
    check(spec, LATENCY_BOUNDS_MS, steps=steps)
    stream = Stream(warmup_left=spec.warmup_requests, opened_at=now)
    evidence = Evidence(
        began_at=now,
        attempts=stream,
        answers=stream,
        alarms=tuple(Alarm(metric=metric.name) for metric in spec.metrics),
        trials=(),
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
    margins: Mapping[str, Percentage] | None = None,
) -> Evidence:
    """Fold what both arms did since the last look into the evidence. Missing readings leave it as it is."""
    evidence = _tracking(evidence, spec, margins or {})
    if stable is None or canary is None:
        return evidence
    return _fold(_fold(evidence, spec, stable, canary, margins or {}, now=now, latency=False),
                 spec, stable, canary, margins or {}, now=now, latency=True)  # fmt: skip


def verdict(
    evidence: Evidence,
    spec: Analysis,
    *,
    now: float,
    margins: Mapping[str, Percentage] | None = None,
    since: float | None = None,
) -> Verdict | None:
    """Successful, Failed or Inconclusive; None: go on.

    Args:
        evidence: what `look` gave.
        spec: the analysis.
        now: seconds since the epoch.
        margins: of the current step, where they are not the metrics' own.
        since: when waiting for this verdict began; the evidence's beginning when absent. `maxDuration` counts from here.
    """
    margins = margins or {}
    enough = [metric for metric in spec.metrics if _counted(evidence, metric.name) >= spec.min_requests]
    threshold = alarm_threshold(spec)
    for metric in enough:
        alarm = next(one for one in evidence.alarms if one.metric == metric.name)
        trial = evidence.trial(metric.name, _margin(metric, margins).value)
        if alarm.log_e >= threshold and trial is not None and trial.beyond:
            reason = Reason.ERROR_RATE if metric.name == "error-rate" else Reason.LATENCY
            return _say(
                Outcome.FAILED,
                reason,
                evidence,
                metric,
                margins,
                f"evidence {_power(alarm.log_e)} ≥ {_power(threshold)}",
            )
    if spec.metrics and len(enough) == len(spec.metrics):
        trials = [evidence.trial(metric.name, _margin(metric, margins).value) for metric in spec.metrics]
        if all(trial is not None and trial.log_e >= success_threshold(spec) for trial in trials):
            weakest = min(zip(trials, spec.metrics, strict=True), key=lambda pair: pair[0].log_e if pair[0] else 0.0)
            trial, metric = weakest
            shown = f"evidence {_power(trial.log_e if trial else 0.0)} ≥ {_power(success_threshold(spec))}"
            return _say(Outcome.SUCCESSFUL, Reason.ANALYSIS_SUCCESSFUL, evidence, metric, margins, shown)
    waited = now - (evidence.began_at if since is None else since)
    if waited < spec.max_duration.seconds:
        return None
    few = [metric for metric in spec.metrics if metric not in enough]
    if few:
        name = few[0].name
        message = f"{name}: {_counted(evidence, name)} requests on the arm with fewer < {spec.min_requests} after {waited:.0f} s"
        return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.NO_EVIDENCE, message=message)
    message = f"{waited:.0f} s ≥ maxDuration {spec.max_duration}; " + "; ".join(
        progress(evidence, spec, margins=margins)
    )
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.MAX_DURATION, message=message)


def progress(evidence: Evidence, spec: Analysis, *, margins: Mapping[str, Percentage] | None = None) -> tuple[str, ...]:
    """One line a metric: both sides, the margin, and how far the evidence is."""
    return tuple(_sides(evidence, metric, margins or {}) for metric in spec.metrics)


def alarm_threshold(spec: Analysis) -> float:
    """Logarithm that an alarm must reach: `falseAlarmRate` is shared by all metrics (Bonferroni)."""
    return math.log(len(spec.metrics) / spec.false_alarm_rate.fraction)


def success_threshold(spec: Analysis) -> float:
    """Logarithm that each metric's success must reach; all must, so nothing is shared."""
    return -math.log(spec.miss_rate.fraction)


def check(spec: Analysis, bounds_ms: Sequence[float] = LATENCY_BOUNDS_MS, *, steps: Iterable[Step] = ()) -> None:
    """Refuse an analysis that can never come to a verdict, or that errs without limit.

    Raises:
        BadInput: names the field and what to write.
    """
    for name, rate in (("falseAlarmRate", spec.false_alarm_rate), ("missRate", spec.miss_rate)):
        if not 0 < rate.fraction < 0.5:
            raise BadInput(f"analysis.{name} is {rate}", do="write a risk above 0% and below 50%, like 1%")
    if spec.min_requests < 1 or spec.warmup_requests < 0:
        raise BadInput(
            f"analysis.minRequests is {spec.min_requests}, warmupRequests {spec.warmup_requests}",
            do="write at least 1 and at least 0",
        )
    if spec.max_duration.seconds <= 0:
        raise BadInput(f"analysis.maxDuration is {spec.max_duration}", do="write a duration above 0s, like 30m")
    if not spec.metrics:
        raise BadInput("analysis.metrics is empty", do="name at least one, like error-rate")
    names = [metric.name for metric in spec.metrics]
    if len(set(names)) < len(names):
        raise BadInput(f"analysis.metrics names one twice: {', '.join(names)}", do="name each metric once")
    for metric in spec.metrics:
        _check_margin(metric.name, metric.margin, bounds_ms)
    known = {metric.name: metric for metric in spec.metrics}
    for step in steps:
        for name, value in step.analysis.margins.items() if isinstance(step, AnalysisStep) else ():
            if name not in known:
                raise BadInput(
                    f"a step's margins name {name}, which analysis.metrics does not", do=f"use {', '.join(known)}"
                )
            _check_margin(name, replace(known[name].margin, value=value), bounds_ms)


def _check_margin(name: str, margin: MetricMargin, bounds_ms: Sequence[float]) -> None:
    value = margin.value.fraction
    if name == "error-rate":
        if value <= 0 or (margin.type == "Absolute" and value >= 1):
            raise BadInput(
                f"the margin of error-rate is {margin.value}", do="write more than 0% and, if Absolute, less than 100%"
            )
        return
    if not re.fullmatch(r"latency-p\d{1,2}(?:\.\d+)?", name) or not 0 < _tail(name) < 1:
        raise BadInput(
            f"no analysis knows the metric {name}", do="use error-rate, or latency-p and a percentile like latency-p90"
        )
    if margin.type != "Relative":
        raise BadInput(f"the margin of {name} is Absolute", do="make it Relative, like {type: Relative, value: 50%}")
    ratio = max(later / earlier for earlier, later in zip(bounds_ms, bounds_ms[1:], strict=False))
    if (1 + value) * _SLACK < ratio:
        raise BadInput(
            f"the margin of {name} is {margin.value}, finer than the histogram's buckets, which are {ratio - 1:.1%} apart",
            do="write a wider margin, or give the router finer buckets",
        )


_SLACK = 1.001  # bounds are rounded to what a router prints


def _margin(metric: AnalysisMetric, margins: Mapping[str, Percentage]) -> MetricMargin:
    return replace(metric.margin, value=margins.get(metric.name, metric.margin.value))


def _tail(name: str) -> float:
    """Share of requests beyond the percentile in a metric's name: 0.1 for `latency-p90`."""
    return 1 - float(name.removeprefix("latency-p")) / 100


def _tracking(evidence: Evidence, spec: Analysis, margins: Mapping[str, Percentage]) -> Evidence:
    """A copy that tests these margins too; one that is new begins with no evidence."""
    wanted = [(metric.name, _margin(metric, margins).value) for metric in spec.metrics]
    new = tuple(Trial(metric=name, margin=value) for name, value in wanted if evidence.trial(name, value) is None)
    return replace(evidence, trials=evidence.trials + new) if new else evidence


def _counted(evidence: Evidence, name: str) -> int:
    """Requests of the arm with fewer that entered a metric's comparison."""
    stream = evidence.attempts if name == "error-rate" else evidence.answers
    return min(stream.stable.counted, stream.canary.counted)


def _fold(
    evidence: Evidence,
    spec: Analysis,
    stable: Reading,
    canary: Reading,
    margins: Mapping[str, Percentage],
    *,
    now: float,
    latency: bool,
) -> Evidence:
    """Advance one of the two streams, and all metrics that stand on it."""
    metrics = [metric for metric in spec.metrics if (metric.name != "error-rate") == latency]
    read = streams.answers if latency else streams.attempts
    left, right = read(stable), read(canary)
    if not metrics:
        return evidence
    if left is None or right is None or left[0] != right[0]:
        return replace(evidence, ignored=evidence.ignored + 1)
    stream = evidence.answers if latency else evidence.attempts
    stream, block = streams.advance(stream, max(stable.at, canary.at), left[0], left[1], right[1])
    if block is not None:
        for metric in metrics:
            evidence = _bet(evidence, stream, block, metric, cap=success_threshold(spec) + _CARRIED)
        stream = streams.learn(stream, block)
    evidence = replace(evidence, answers=stream) if latency else replace(evidence, attempts=stream)
    if block is None:
        return evidence
    marks = tuple(_mark(evidence, metric, margins, now) for metric in metrics)
    return replace(evidence, history=_thinned(evidence.history + marks, len(spec.metrics)))


def _bet(evidence: Evidence, stream: Stream, block: Closed, metric: AnalysisMetric, *, cap: float) -> Evidence:
    """Multiply a metric's E-processes with what a block is worth; bets come from what the stream knew before it."""
    if not stream.stable.past or stream.stable.past[-1] < streams.MIN_PAST:
        return evidence
    at = _bounds(stream, metric.name, 0.0)
    base = stream.stable.share_over(at.alarm)
    both = block.over(at.alarm)
    smallest = min(trial.margin.fraction for trial in evidence.trials if trial.metric == metric.name)
    bets = _worse(base, _gap(metric, base, smallest))
    alarms = tuple(_alarm(one, both, base, bets) if one.metric == metric.name else one for one in evidence.alarms)
    trials = tuple(
        _trial(one, stream, block, metric, cap) if one.metric == metric.name else one for one in evidence.trials
    )
    old = evidence.tallies[metric.name]
    tally = Tally(
        stable=old.stable + both[0].requests,
        stable_hits=old.stable_hits + both[0].hits,
        canary=old.canary + both[1].requests,
        canary_hits=old.canary_hits + both[1].hits,
        bound=stream.bounds[at.alarm],
    )
    return replace(evidence, alarms=alarms, trials=trials, tallies={**evidence.tallies, metric.name: tally})


def _bounds(stream: Stream, name: str, margin: float) -> _Bounds:
    """Pick bounds from earlier stable traffic: x just not above the percentile, z the first above it, y by the margin."""
    if name == "error-rate":
        return _Bounds(0, 0, 0)
    past, last = stream.stable.past, len(stream.bounds) - 1
    tail = _tail(name) * past[-1]
    above = next((index for index in range(last + 1) if past[-1] - past[index] < tail), last)
    below = max(0, above - 1)
    limit = stream.bounds[below] * (1 + margin) * _SLACK
    reach = max((index for index in range(below, last + 1) if stream.bounds[index] <= limit), default=below)
    return _Bounds(above, below, reach)


def _gap(metric: AnalysisMetric, base: float, margin: float) -> float:
    """The smallest worsening worth an alarm, in shares."""
    if metric.name != "error-rate":
        return base * margin
    return margin if metric.margin.type == "Absolute" else base * margin


def _worse(base: float, gap: float) -> tuple[float, ...]:
    """What the canary's share may be when it is worse: from a little more than the margin to nearly all."""
    first = min(base + max(1.5 * gap, 1e-4), (1 + base) / 2)
    start, end = math.log(first / (1 - first)), max(math.log(first / (1 - first)) + 1.0, math.log(0.9 / 0.1))
    return tuple(1 / (1 + math.exp(-(start + (end - start) * part / 4))) for part in range(5))


def _alarm(alarm: Alarm, block: tuple[Block, Block], base: float, bets: Sequence[float]) -> Alarm:
    """Each bet's process R becomes E·(R + w): w is the share of the stake that begins only now, so a late change is seen too."""
    count = len(bets)
    started = alarm.blocks
    fresh = (1 - _RESERVE) if started == 0 else _RESERVE / (started * (started + 1))
    logs = []
    for index, bet in enumerate(bets):
        worth = log_e(block[0], block[1], bet=Rates(base, bet), null=AS_GOOD)
        before = log_mean((alarm.logs[index], math.log(fresh)), (1.0, 1.0)) if alarm.logs else math.log(fresh)
        logs.append(round(before + worth, 9))
    unspent = _RESERVE / (started + 1)
    total = log_mean((*logs, math.log(unspent)), (*(1 / count for _ in logs), 1.0))
    return replace(alarm, blocks=started + 1, logs=tuple(logs), log_e=round(total, 9))


def _trial(trial: Trial, stream: Stream, block: Closed, metric: AnalysisMetric, cap: float) -> Trial:
    """Bet that the canary's rate is what its own past says, drawn towards stable's.

    Evidence above `cap` is not carried on: still a supermartingale, and a canary that turns bad is not saved by its good days.
    """
    margin = trial.margin.fraction
    at = _bounds(stream, metric.name, margin)
    if metric.name != "error-rate":
        null = Null(above=True)
    elif metric.margin.type == "Absolute":
        null = Null(above=True, shift=margin)
    else:
        null = Null(above=True, slope=1 + margin)
    base = stream.stable.share_over(at.stable)
    good = stream.stable.share_over(at.canary)
    past = stream.canary.past
    seen, hits = (past[-1], past[-1] - past[at.canary]) if past else (0.0, 0.0)
    room = max(0.0, null.line(base) - good)
    guess = (hits + _SHRINK * (good + 0.05 * room)) / (seen + _SHRINK)
    stable, canary = block.split(at.stable, at.canary)
    worth = log_e(stable, canary, bet=Rates(base, guess), null=null)
    top = math.inf if False else _CARRIED
    weight = stable.requests * canary.requests / (stable.requests + canary.requests)
    excess = weight * (canary.hits / canary.requests - null.line(stable.hits / stable.requests))
    fade = min(1.0, _JUDGED / (trial.weight + weight))
    return replace(
        trial,
        log_e=round(min(trial.log_e + worth, cap), 6),
        excess=round((trial.excess + excess) * fade, 6),
        weight=round((trial.weight + weight) * fade, 6),
    )


def _mark(evidence: Evidence, metric: AnalysisMetric, margins: Mapping[str, Percentage], now: float) -> Mark:
    tally = evidence.tallies[metric.name]
    trial = evidence.trial(metric.name, _margin(metric, margins).value)
    return Mark(
        at=now,
        metric=metric.name,
        stable=round(tally.stable_hits / max(1, tally.stable), 5),
        canary=round(tally.canary_hits / max(1, tally.canary), 5),
        alarm=round(next(one.log_e for one in evidence.alarms if one.metric == metric.name), 3),
        success=round(trial.log_e if trial else 0.0, 3),
        stable_requests=tally.stable,
        canary_requests=tally.canary,
    )


def _thinned(history: tuple[Mark, ...], metrics: int) -> tuple[Mark, ...]:
    """At most HISTORY marks: every second moment of the past goes when there are more; the newest stays."""
    if len(history) <= HISTORY:
        return history
    moments = sorted({mark.at for mark in history})
    kept = set(moments[::-1][::2])
    thinner = tuple(mark for mark in history if mark.at in kept)
    return thinner if len(thinner) <= HISTORY else thinner[-HISTORY:]


def _say(
    outcome: Outcome,
    reason: Reason,
    evidence: Evidence,
    metric: AnalysisMetric,
    margins: Mapping[str, Percentage],
    why: str,
) -> Verdict:
    return Verdict(outcome=outcome, reason=reason, message=f"{_sides(evidence, metric, margins)}; {why}")


def _sides(evidence: Evidence, metric: AnalysisMetric, margins: Mapping[str, Percentage]) -> str:
    """Both sides of a comparison in words."""
    tally, margin = evidence.tallies[metric.name], _margin(metric, margins)
    left = f"{tally.canary_hits / max(1, tally.canary):.2%} of canary's {tally.canary}"
    right = f"{tally.stable_hits / max(1, tally.stable):.2%} of stable's {tally.stable}"
    allowed = f"margin {margin.value}{' of it' if margin.type == 'Relative' else ''}"
    if metric.name == "error-rate":
        return f"error-rate: {left} attempts failed, {right}, {allowed}"
    return f"{metric.name}: {left} answers took longer than {tally.bound:.3g} ms, {right}, {allowed}"


def _power(log: float) -> str:
    """An E-value as people read it."""
    return f"{math.exp(log):.3g}" if log < 300 else f"10^{log / math.log(10):.0f}"
