"""Arms that answer by chance or by the book, and rollouts that were fed with them."""

import math
import random
from bisect import bisect_left

from modelyard.rollout import analysis
from modelyard.rollout.observation import Counts
from modelyard.spec.deployment import (
    Analysis,
    AnalysisMetric,
    MetricMargin,
)
from modelyard.units import Percentage

BOUNDS = analysis.LATENCY_BOUNDS_MS
ERRORS = AnalysisMetric(name="error-rate", margin=MetricMargin(type="Absolute", value=Percentage("5%")))
P90 = AnalysisMetric(name="latency-p90", margin=MetricMargin(type="Relative", value=Percentage("50%")))
BOTH = Analysis(metrics=(ERRORS, P90))
ERRORS_ONLY = Analysis(metrics=(ERRORS,))
LATENCY_ONLY = Analysis(metrics=(P90,))


class Arm:
    """Cumulative counters of a made-up arm: answers take around 4 ms."""

    def __init__(
        self, rng: random.Random, *, errors: float = 0.0, slower: float = 1.0, more_ms: float = 0.0,
        spread: float = 0.35, of: float = 1.0,
    ) -> None:  # fmt: skip
        self.rng, self.rate, self.slower, self.more_ms, self.spread, self.of = rng, errors, slower, more_ms, spread, of
        self.requests = self.errors = 0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def serve(self, requests: int) -> "Arm":
        for _ in range(requests):
            self.requests += 1
            self.errors += self.rng.random() < self.rate
            ms = 4 * math.exp(self.spread * self.rng.gauss(0, 1)) + self.more_ms
            ms *= self.slower if self.of == 1.0 or self.rng.random() < self.of else 1.0
            self.buckets[bisect_left(BOUNDS, ms)] += 1
        return self

    def counts(self, at: float) -> Counts:
        row, total = [], 0
        for bucket in self.buckets:
            total += bucket
            row.append(total)
        return Counts(at=at, requests=self.requests, errors=self.errors, latency=tuple(row), bounds=BOUNDS)


def roll(spec, *, seed=1, looks=2000, share=0.05, per_look=50, margins=None, base=0.0, now=0.0, spread=0.35, **canary):
    """Play a rollout until its verdict: (verdict, evidence, requests of the canary)."""
    rng = random.Random(seed)
    stable, new = Arm(rng, errors=base, spread=spread).serve(2000), Arm(rng, spread=spread, **canary)
    evidence = analysis.begin(spec, now=now)
    for at in range(looks):
        evidence = analysis.look(
            evidence, spec, now=now + at, stable=stable.counts(now + at), canary=new.counts(now + at), margins=margins
        )
        said = analysis.verdict(evidence, spec, now=now + at, margins=margins)
        if said is not None:
            return said, evidence, new.requests
        sent = sum(rng.random() < share for _ in range(per_look))
        stable.serve(per_look - sent)
        new.serve(sent)
    return None, evidence, new.requests


def plain(at: float, requests: int, errors: int = 0) -> Counts:
    return Counts(at=at, requests=requests, errors=errors)


def fed(readings, spec=ERRORS_ONLY):
    """Evidence after pairs of readings of stable and canary; None where one is missing."""
    evidence = analysis.begin(spec, now=0.0)
    for at, (stable, canary) in enumerate(readings):
        evidence = analysis.look(evidence, spec, now=float(at), stable=stable, canary=canary)
    return evidence


def steady(looks: int = 40, canary_errors: int = 0):
    """Readings of two arms with 100 and 10 requests a look."""
    return [(plain(at, 1000 + 100 * at), plain(at, 10 * at, min(canary_errors * at, 10 * at))) for at in range(looks)]
