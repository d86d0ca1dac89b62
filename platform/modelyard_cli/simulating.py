"""A rollout before the rollout: how long its analysis takes and how often it errs, with the very code that will judge.

Requests are dealt out by chance at the given rate; errors come independently; latencies are lognormal (median 20 ms,
sigma 0.5), the canary's longer by a factor. Time is virtual, so thirty minutes take less than a second.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

from modelyard.rollout import analysis
from modelyard.rollout.observation import Counts
from modelyard.spec.deployment import Analysis, AnalysisStep, PauseStep, SetWeight, Step
from modelyard.verdict import Outcome, Verdict

EVERY_S = 2.0
"""Between two looks."""
_BEFORE_S = 600.0
"""Stable's traffic before the canary begins."""
_MEDIAN_MS, _SIGMA = 20.0, 0.5
_HELD_S = 60.0
"""What a pause without a duration is taken for."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is really so, which the analysis has to find out."""

    name: str
    rps: float
    errors: float
    """Share of failed attempts on stable."""
    regression: float = 0.0
    """How much larger the canary's share is."""
    slower: float = 0.0
    """How much longer the canary takes: 0.5 is half as long again."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One simulated rollout."""

    verdict: Verdict | None
    """None: all steps were walked."""
    seconds: float
    canary_requests: int
    canary_errors: int


def table(
    truths: Sequence[Truth], spec: Analysis, steps: Sequence[Step], *, rollouts: int, seed: int
) -> list[dict[str, Any]]:
    """One row for each truth: how its rollouts end, how long they take, what they cost."""
    rows = []
    for truth in truths:
        ends = [rollout(truth, spec, steps, chance=random.Random(f"{seed} {truth} {n}")) for n in range(rollouts)]  # noqa: S311
        failed = sum(one.verdict is not None and one.verdict.outcome == Outcome.FAILED for one in ends) / rollouts
        passed = sum(one.verdict is None for one in ends) / rollouts
        rows.append(
            {
                "canary": truth.name,
                "promoted": f"{passed:.0%}",
                "rolled back": f"{failed:.0%}",
                "inconclusive": f"{max(0.0, 1 - passed - failed):.0%}",
                "median s": round(statistics.median(one.seconds for one in ends)),
                "longest s": round(max(one.seconds for one in ends)),
                "canary requests": round(statistics.median(one.canary_requests for one in ends)),
                "its errors": round(statistics.median(one.canary_errors for one in ends)),
            }
        )
    return rows


def rollout(truth: Truth, spec: Analysis, steps: Sequence[Step], *, chance: random.Random) -> Ended:
    """Walk the steps once."""
    arms = (_Arm(truth.errors, 0.0, chance), _Arm(truth.errors + truth.regression, truth.slower, chance))
    arms[0].serve(truth.rps * _BEFORE_S)
    evidence = analysis.begin(spec, now=0.0, steps=steps)
    now, weight = 0.0, 0

    def ended(verdict: Verdict | None) -> Ended:
        return Ended(verdict=verdict, seconds=now, canary_requests=arms[1].requests, canary_errors=arms[1].errors)

    for step in steps:
        if isinstance(step, SetWeight):
            weight = step.set_weight
            continue
        waits = isinstance(step, AnalysisStep)
        margins = step.analysis.margins if isinstance(step, AnalysisStep) else {}
        since = now
        for _ in range(_looks(step, spec)):
            now += EVERY_S
            arms[0].serve(truth.rps * EVERY_S * (100 - weight) / 100)
            arms[1].serve(truth.rps * EVERY_S * weight / 100)
            stable, canary = (arm.counts(now) for arm in arms)
            evidence = analysis.look(evidence, spec, now=now, stable=stable, canary=canary, margins=margins)
            verdict = analysis.verdict(evidence, spec, now=now, margins=margins, since=since)
            if verdict is not None and verdict.outcome == Outcome.FAILED:
                return ended(verdict)
            if waits and verdict is not None:
                if verdict.outcome != Outcome.SUCCESSFUL:
                    return ended(verdict)
                break
    return ended(None)


def _looks(step: Step, spec: Analysis) -> int:
    if isinstance(step, PauseStep):
        return math.ceil((step.pause.duration.seconds if step.pause.duration else _HELD_S) / EVERY_S)
    return math.ceil(spec.max_duration.seconds / EVERY_S) + 1


class _Arm:
    """Counters of one side, which only grow."""

    def __init__(self, errors: float, slower: float, chance: random.Random) -> None:
        self._share = errors
        self._chance = chance
        self._edges = _cumulative(1 + slower)
        self._answers = [0] * len(self._edges)
        self.requests = 0
        self.errors = 0

    def serve(self, expected: float) -> None:
        """Answer about so many requests."""
        asked = _around(expected, self._chance)
        failed = (
            min(asked, _around(asked * self._share, self._chance)) if self._share < 0.5 else round(asked * self._share)
        )
        self.requests += asked
        self.errors += failed
        for bucket in self._chance.choices(range(len(self._edges)), cum_weights=self._edges, k=asked - failed):
            self._answers[bucket] += 1

    def counts(self, now: float) -> Counts:
        """As the router would tell them."""
        return Counts(
            at=now,
            requests=self.requests,
            errors=self.errors,
            latency=tuple(accumulate(self._answers)),
            bounds=analysis.LATENCY_BOUNDS_MS,
        )


def _around(mean: float, chance: random.Random) -> int:
    """A Poisson number: by its definition where it is small, by its normal limit where it is not."""
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    if mean <= 0:
        return 0
    # Exponential waits until one unit of time is over.
    count, passed = 0, chance.expovariate(mean)
    while passed < 1:
        count, passed = count + 1, passed + chance.expovariate(mean)
    return count


@cache
def _cumulative(factor: float) -> tuple[float, ...]:
    """The lognormal's distribution at each bound, and 1."""
    scaled = (math.log(bound / (_MEDIAN_MS * factor)) / (_SIGMA * math.sqrt(2)) for bound in analysis.LATENCY_BOUNDS_MS)
    return (*((1 + math.erf(one)) / 2 for one in scaled), 1.0)
