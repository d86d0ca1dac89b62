"""One look of the live analysis over four metrics, in CPU time. Goal: under 1 ms.

.venv/bin/python benchmarks/analysis_look.py
"""

import random
import statistics
import time

from modelyard.rollout import analysis
from modelyard.rollout.observation import Counts
from modelyard.spec.deployment import Analysis, AnalysisMetric, MetricMargin
from modelyard.units import Percentage

BOUNDS = analysis.LATENCY_BOUNDS_MS


class Arm:
    """Counters that only grow."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._times = chance, []

    def serve(self, requests: int) -> None:
        self._times += [self._chance.lognormvariate(3.0, 0.5) for _ in range(requests)]

    def counts(self, at: float) -> Counts:
        seen = tuple(sum(t <= bound for t in self._times) for bound in BOUNDS)
        total = len(self._times)
        return Counts(at=at, requests=total, errors=0, latency=(*seen, total), bounds=BOUNDS)


def main() -> None:
    half = MetricMargin(type="Relative", value=Percentage("50%"))
    points = MetricMargin(type="Absolute", value=Percentage("1%"))
    latencies = tuple(AnalysisMetric(name=f"latency-p{q}", margin=half) for q in (50, 90, 99))
    spec = Analysis(metrics=(AnalysisMetric(name="error-rate", margin=points), *latencies))
    chance = random.Random(0)
    arms = (Arm(chance), Arm(chance))
    evidence, took = analysis.begin(spec, now=0.0), []
    for at in range(100):
        for arm, requests in zip(arms, (20, 5), strict=True):
            arm.serve(requests)
        stable, canary = (arm.counts(at) for arm in arms)
        began = time.process_time()
        evidence = analysis.look(evidence, spec, now=at, stable=stable, canary=canary)
        analysis.verdict(evidence, spec, now=at)
        took.append((time.process_time() - began) * 1000)
    print(f"median {statistics.median(took):.2f} ms, goal 1 ms")


if __name__ == "__main__":
    main()
