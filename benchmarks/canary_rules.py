"""The same traffic through the rules that people write for Argo Rollouts and for Flagger, and through ours.

What their documentation shows is taken as it stands:

- Argo Rollouts, "Background Analysis" (argo-rollouts.readthedocs.io/en/stable/features/analysis/): `successCondition:
  result >= 0.95`, `interval: 5m`, `failureLimit: 3`; weights 20, 40, 60, 80 %, ten minutes each. More than
  `failureLimit` failed measurements abort it; the last step's end promotes it. `failureLimit` is 0 by default.
- Flagger, "How it works" (docs.flagger.app/usage/how-it-works): `interval: 1m` (the default), `threshold: 10`,
  `stepWeight: 5`, `maxWeight: 50`, `request-success-rate` with `thresholdRange: {min: 99}`. A failed check holds the
  weight; `threshold` failed checks roll back; passing at `maxWeight` promotes.

A measurement is the canary's success rate over the interval just passed (a query with `irate` would see its last two
scrapes only, and scatter more). A measurement without a request passes nothing and fails nothing.
"""

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
from canary_twin import Array, Metric, Twin

from modelyard.rollout.analysis import SPENT

LOOK_S = 5
"""Seconds between two looks of ours."""
LONGEST_S = 3600
WAIT_S = 1800
"""Our `maxDuration` for a step's verdict."""
ALARM, SUCCESS = 2 / 0.01, -math.log(SPENT * 0.05)


@dataclass(frozen=True)
class Traffic:
    """What is really so."""

    name: str
    base: float
    worse: float = 0.0
    incident: float = 0.0
    """Errors that both arms have besides, from second 15 to minute 10: a slow database."""
    rps: float = 50.0

    def rates(self, second: int) -> tuple[float, float]:
        """Of stable and canary."""
        more = self.incident if 15 <= second < 600 else 0.0
        return self.base + more, self.base + more + self.worse


@dataclass
class Ends:
    """How the rollouts of one rule ended: 1 aborted, 2 promoted, 0 neither; when; and requests harmed by it."""

    rule: str
    traffic: Traffic
    outcome: Array
    seconds: Array
    harmed: Array


TRAFFICS = (
    Traffic("as good, errors 0.1 %", 0.001),
    Traffic("as good, errors 1 %", 0.01),
    Traffic("as good, errors 2 %", 0.02),
    Traffic("as good, errors 6 %", 0.06),
    Traffic("as good, errors 0.1 %, and 10 % on both arms until minute 10", 0.001, incident=0.1),
    Traffic("errors 0.1 % → 1.5 %", 0.001, 0.014),
    Traffic("errors 0.1 % → 4 %", 0.001, 0.039),
    Traffic("errors 1 % → 11 %", 0.01, 0.1),
    Traffic("as good, errors 0.1 %, 5 requests a second", 0.001, rps=5.0),
    Traffic("as good, errors 1 %, 5 requests a second", 0.01, rps=5.0),
    Traffic("errors 1 % → 6 %, 5 requests a second", 0.01, 0.05, rps=5.0),
    Traffic("errors 1 % → 21 %, 5 requests a second", 0.01, 0.2, rps=5.0),
)


def argo(
    traffic: Traffic,
    rollouts: int,
    rng: np.random.Generator,
    *,
    least: float = 0.95,
    interval: int = 300,
    limit: int = 3,
) -> Ends:
    """A background analysis over four steps of ten minutes."""
    ends = _ends("Argo Rollouts", traffic, rollouts)
    failures = np.zeros(rollouts)
    for start in range(0, 2400, interval):
        weight = 0.2 * (1 + start // 600)
        requests, errors = _canary(traffic, rng, np.full(rollouts, weight), start, interval)
        on = ends.outcome == 0
        ends.harmed += np.where(on, requests * traffic.worse, 0)
        failures += (requests > 0) & (requests - errors < least * requests)
        _end(ends, on & (failures > limit), 1, start + interval)
    _end(ends, ends.outcome == 0, 2, 2400)
    return ends


def flagger(
    traffic: Traffic,
    rollouts: int,
    rng: np.random.Generator,
    *,
    least: float = 0.99,
    interval: int = 60,
    threshold: int = 10,
) -> Ends:
    """Five points more with each passed check, up to 50 %."""
    ends = _ends("Flagger", traffic, rollouts)
    weight, failures = np.full(rollouts, 0.05), np.zeros(rollouts)
    for start in range(0, LONGEST_S, interval):
        requests, errors = _canary(traffic, rng, weight, start, interval)
        on = ends.outcome == 0
        ends.harmed += np.where(on, requests * traffic.worse, 0)
        failed = (requests == 0) | (requests - errors < least * requests)
        failures += failed
        _end(ends, on & (failures >= threshold), 1, start + interval)
        _end(ends, (ends.outcome == 0) & ~failed & (weight > 0.495), 2, start + interval)
        weight = np.where(failed, weight, np.minimum(0.5, weight + 0.05))
        if (ends.outcome > 0).all():
            break
    return ends


def modelyard(traffic: Traffic, rollouts: int, rng: np.random.Generator) -> Ends:
    """Our defaults: 5 % of the traffic until the margin of 5 points is shown, 50 % until that of 1 point is."""
    ends = _ends("Modelyard", traffic, rollouts)
    past = rng.binomial(2000, traffic.base, rollouts)
    history = np.array([2000 - past, np.full(rollouts, 2000)], dtype=float)
    wide, narrow = Twin(Metric(0.05), history=history), Twin(Metric(0.01), history=history)
    on, weight, since = np.arange(rollouts), np.full(rollouts, 0.05), np.zeros(rollouts)
    for second in range(0, LONGEST_S, LOOK_S):
        rates = traffic.rates(second)
        stable, canary = (
            _row(rng, traffic.rps * LOOK_S * share, rate)
            for share, rate in ((1 - weight, rates[0]), (weight, rates[1]))
        )
        ends.harmed[on] += canary[-1] * traffic.worse
        for twin in (wide, narrow):
            twin.look(stable, canary)
        now, enough, last = second + LOOK_S, np.minimum(narrow.counted_s, narrow.counted_c) >= 10, weight > 0.1
        beyond = np.where(last, narrow.beyond, wide.beyond)
        success = np.where(last, narrow.success, wide.success) >= SUCCESS
        failed = enough & (narrow.alarm_e >= ALARM) & beyond
        passed = enough & success & ~failed
        _end(ends, on[failed], 1, now)
        _end(ends, on[passed & last], 2, now)
        out = failed | (passed & last) | (now - since >= WAIT_S)
        weight, since = np.where(passed & ~last, 0.5, weight), np.where(passed & ~last, now, since)
        if out.any():
            left = ~out
            on, weight, since = on[left], weight[left], since[left]
            wide.keep(left)
            narrow.keep(left)
            if not len(on):
                break
    return ends


RULES = (modelyard, argo, flagger)


def submit(pool: Executor, rollouts: int) -> list[Future]:
    """Begin all rules over all kinds of traffic."""
    return [pool.submit(_play, rule, at, rollouts) for at in range(len(TRAFFICS)) for rule in range(len(RULES))]


def collect(futures: Sequence[Future]) -> list[Ends]:
    """How they ended."""
    return [future.result() for future in futures]


def _play(rule: int, at: int, rollouts: int) -> Ends:
    return RULES[rule](TRAFFICS[at], rollouts, np.random.default_rng([at, rule, rollouts]))


def table(judged: Sequence[Ends]) -> str:
    """Markdown."""
    lines = [
        "### The same traffic through the rules that are written elsewhere", "",
        "| canary | rule | aborted | promoted | neither | minutes: median (90 %) | harmed requests, mean |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for ends in judged:
        aborted, promoted = (float((ends.outcome == outcome).mean()) for outcome in (1, 2))
        took = ends.seconds[ends.outcome > 0] / 60
        time = f"{np.median(took):.1f} ({np.quantile(took, 0.9):.1f})" if len(took) else "–"
        harm = f"{ends.harmed.mean():,.0f}" if ends.traffic.worse else "–"
        lines.append(
            f"| {ends.traffic.name} | {ends.rule} | {aborted:.1%} | {promoted:.1%} | "
            f"{abs(1 - aborted - promoted):.1%} | {time} | {harm} |"
        )
    return "\n".join(lines)


def _ends(rule: str, traffic: Traffic, rollouts: int) -> Ends:
    return Ends(rule, traffic, np.zeros(rollouts), np.full(rollouts, float(LONGEST_S)), np.zeros(rollouts))


def _end(ends: Ends, those: Array, outcome: int, seconds: float) -> None:
    ends.outcome[those], ends.seconds[those] = outcome, seconds


def _canary(traffic: Traffic, rng: np.random.Generator, weight: Array, start: int, seconds: int) -> tuple[Array, Array]:
    """Requests and errors of the canary over an interval, minute by minute."""
    requests, errors = np.zeros(len(weight)), np.zeros(len(weight))
    for second in range(start, start + seconds, 60):
        count = rng.poisson(traffic.rps * 60 * weight)
        requests += count
        errors += rng.binomial(count, traffic.rates(second)[1])
    return requests, errors


def _row(rng: np.random.Generator, mean: Array, rate: float) -> Array:
    good, bad = rng.poisson(mean * (1 - rate)), rng.poisson(mean * rate)
    return np.array([good, good + bad], dtype=float)
