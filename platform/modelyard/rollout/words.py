"""What both arms did, in words. Pure."""

import math

from modelyard.figures import milliseconds, number
from modelyard.rollout import drift
from modelyard.rollout.evidence import Evidence, Tally
from modelyard.spec.deployment import AnalysisMetric, MetricMargin


def sides(evidence: Evidence, metric: AnalysisMetric, margin: MetricMargin) -> str:
    """Both sides of a comparison, and the margin."""
    if metric.name == drift.NAME:
        return f"{drift.seen(evidence)}, margin {allowed(margin)}"
    tally = evidence.tallies[metric.name]
    return (
        f"{metric.name}: {share(metric, tally.canary_share)} of the canary's {tally.canary:,}{what(metric, tally)}, "
        f"{share(metric, tally.stable_share)} of stable's {tally.stable:,}, margin {allowed(margin, metric)}"
    )


def what(metric: AnalysisMetric, tally: Tally) -> str:
    """What is said of the requests that are hits."""
    if metric.query is not None:
        return ""
    return " failed" if metric.name == "error-rate" else f" slower than {milliseconds(tally.bound)}"


def share(metric: AnalysisMetric, value: float) -> str:
    """An arm's share of hits, or the mean of its values."""
    low, high = range_of(metric)
    return f"{value:.2%}" if (low, high) == (0.0, 1.0) else f"mean {number(low + value * (high - low))}"


def range_of(metric: AnalysisMetric) -> tuple[float, float]:
    """What a value of a mean can be; 0 and 1 where requests are counted."""
    if metric.query is None or metric.query.sum is None:
        return 0.0, 1.0
    low, high = metric.query.bounds
    return low.value, high.value


def allowed(margin: MetricMargin, metric: AnalysisMetric | None = None) -> str:
    """How much worse is still as good."""
    low, high = (0.0, 1.0) if metric is None else range_of(metric)
    if margin.type == "Absolute" and (low, high) != (0.0, 1.0):
        return f"+{number(margin.value.fraction * (high - low))}"
    return f"+{margin.value}" if margin.type == "Relative" else f"{margin.value[:-1]} points"


def power(log: float) -> str:
    """An E-value as people read it."""
    return number(math.exp(log), 3) if abs(log) < 20 else f"10^{log / math.log(10):.0f}"
