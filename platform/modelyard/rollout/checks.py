"""An analysis that can never come to a verdict, or that errs without limit, is refused. Pure."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from modelyard.errors import BadInput
from modelyard.rollout import bets, drift, guardrails
from modelyard.spec.check_deployment import LONGEST_BURST_S
from modelyard.spec.check_query import check_queries, check_query
from modelyard.spec.deployment import Analysis, AnalysisMetric, AnalysisStep, MetricMargin, Step
from modelyard.units import Percentage


def _two_digits(first: float, last: float) -> tuple[float, ...]:
    """Numbers of two significant digits from `first` to `last`, at most 1.1 times the one before, mostly 1.05."""
    digits = [10]
    while digits[-1] < 96:
        digits.append(max(digits[-1] + 1, math.ceil(digits[-1] * 1.04)))
    numbers = (float(f"{number}e{power}") for power in range(-4, 6) for number in digits)
    return tuple(number for number in numbers if first <= number <= last)


LATENCY_BOUNDS_MS = _two_digits(0.5, 20_000.0)
"""Envoy keeps a histogram's values at two significant digits, so that only such bounds cut no bin in two."""


def check(spec: Analysis, bounds_ms: Sequence[float] = LATENCY_BOUNDS_MS, *, steps: Iterable[Step] = ()) -> None:
    """Refuse an analysis that can never come to a verdict, or that errs without limit.

    Raises:
        BadInput: names the field and what to write.
    """
    _check_numbers(spec)
    guardrails.check(spec.guardrails, bounds_ms)
    known = {metric.name: metric for metric in spec.metrics}
    if len(known) < max(1, len(spec.metrics)):
        named = ", ".join(metric.name for metric in spec.metrics) or "nothing"
        raise BadInput(f"analysis.metrics names {named}", do="name at least one, and each once")
    for metric in spec.metrics:
        _check_margin(metric, metric.margin, bounds_ms)
    problem = next((one for metric in spec.metrics for one in check_query(metric, ("analysis", metric.name))), None)
    problem = problem or next(check_queries(spec, ("analysis",)), None)
    if problem is not None:
        raise BadInput(f"{'.'.join(problem.field)}: {problem.message}", do="correct it")
    for name, value in _step_margins(steps):
        if name not in known:
            raise BadInput(f"a step has a margin for {name}, which is not in analysis.metrics", do="add it there")
        _check_margin(known[name], replace(known[name].margin, value=value), bounds_ms)


def _check_numbers(spec: Analysis) -> None:
    for name, rate in (("falseAlarmRate", spec.false_alarm_rate), ("missRate", spec.miss_rate)):
        if not 0 < rate.fraction < 0.5:
            raise BadInput(f"analysis.{name} is {rate}", do="write a risk above 0% and below 50%, like 1%")
    for name, count, least in (("minRequests", spec.min_requests, 1), ("warmupRequests", spec.warmup_requests, 0)):
        if count < least:
            raise BadInput(f"analysis.{name} is {count}", do=f"write at least {least}")
    if spec.max_duration.seconds <= 0:
        raise BadInput(f"analysis.maxDuration is {spec.max_duration}", do="write a duration above 0s, like 30m")
    if spec.bursts.seconds > LONGEST_BURST_S:
        raise BadInput(f"analysis.bursts is {spec.bursts}", do=f"write at most {LONGEST_BURST_S:.0f}s")


def _step_margins(steps: Iterable[Step]) -> list[tuple[str, Percentage]]:
    waits = [step.analysis for step in steps if isinstance(step, AnalysisStep)]
    return [(name, value) for wait in waits for name, value in wait.margins.items()]


def _check_margin(metric: AnalysisMetric, margin: MetricMargin, bounds_ms: Sequence[float]) -> None:
    name, value = metric.name, margin.value.fraction
    if value <= 0 or (margin.type == "Absolute" and value >= 1):
        raise BadInput(
            f"the margin of {name} is {margin.value}", do="write more than 0%, and if Absolute less than 100%"
        )
    if name == drift.NAME and margin.type != "Absolute":
        raise BadInput(f"the margin of {name} is Relative", do="make it Absolute, like {type: Absolute, value: 10%}")
    if name in ("error-rate", drift.NAME) or metric.query is not None:
        return
    if not re.fullmatch(r"latency-p\d{1,2}(?:\.\d+)?", name) or not 0 < bets.tail(name) < 1:
        raise BadInput(f"no analysis knows the metric {name}", do="use error-rate, or latency-p90 with any percentile")
    if margin.type != "Relative":
        raise BadInput(f"the margin of {name} is Absolute", do="make it Relative, like {type: Relative, value: 50%}")
    ratio = max((later / earlier for earlier, later in pairwise(bounds_ms)), default=math.inf)
    if (1 + value) * bets.SLACK < ratio:
        raise BadInput(
            f"the margin of {name} is {margin.value}, finer than the buckets of the histogram ({ratio - 1:.1%} apart)",
            do=f"write a margin of at least {math.ceil(100 * (min(ratio, 1e6) / bets.SLACK - 1))}%",
        )
