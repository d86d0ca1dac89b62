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
        f"{metric.name}: {share(tally.canary_share)} of the canary's {tally.canary:,} {what(metric, tally)}, "
        f"{share(tally.stable_share)} of stable's {tally.stable:,}, margin {allowed(margin)}"
    )


def what(metric: AnalysisMetric, tally: Tally) -> str:
    """What is said of the requests that are hits."""
    return "failed" if metric.name == "error-rate" else f"slower than {milliseconds(tally.bound)}"


def share(value: float) -> str:
    """An arm's share of hits."""
    return f"{value:.2%}"


def allowed(margin: MetricMargin) -> str:
    """How much worse is still as good."""
    return f"+{margin.value}" if margin.type == "Relative" else f"{margin.value[:-1]} points"


def power(log: float) -> str:
    """An E-value as people read it."""
    return number(math.exp(log), 3) if abs(log) < 20 else f"10^{log / math.log(10):.0f}"
