"""A rollout before the rollout, with the very loop that will run it: how long it takes, and what it costs clients.

So that steps and margins are chosen with open eyes. Time is virtual: half an hour takes about a second.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.rollout.loop import look
from modelyard.rollout.observation import Counts
from modelyard.rollout.states import has_ended
from modelyard.rollout.virtual import CANARY, STABLE, Records, Registry, Traffic, Truth, world
from modelyard.spec.check_classes import DRIFT
from modelyard.spec.deployment import AnalysisStep, DeploymentSpec, ModelDeployment, PauseStep
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import ModelRollout
from modelyard.units import Percentage
from modelyard.verdict import Verdict

__all__ = ["Simulated", "Truth", "simulate", "without_queries"]

EVERY_S = 1.0
"""Between two looks."""
BEFORE_S = 600.0
"""Stable's traffic before the new version comes."""
_NAME = "simulated"
_KEY = f"default/{_NAME}"


@record
class Simulated:
    """How one rollout went."""

    verdict: Verdict
    promoted: bool
    seconds: float
    """From the alias' move until all is at rest."""
    verdict_s: float
    """From the canary's first answer to the decision: the last step done, or the beginning of the rollback."""
    canary_requests: int
    canary_errors: int
    harmed: int
    """Requests that failed, and would not have on stable; in the mean."""
    weights: tuple[tuple[float, int], ...]
    """The canary's weight over time, where it changed: seconds since the alias' move, percent."""


def without_queries(wish: DeploymentSpec) -> DeploymentSpec:
    """The wish without metrics that others count: of those nothing can be simulated.

    Raises:
        BadInput: nothing else is compared.
    """
    metrics = tuple(metric for metric in wish.analysis.metrics if metric.query is None)
    if not metrics:
        raise BadInput("all metrics of the analysis have a query", do="simulate with one that the router counts")
    gone = {metric.name for metric in wish.analysis.metrics if metric.query is not None}
    steps = tuple(
        replace(step, analysis=replace(step.analysis, margins=_left(step.analysis.margins, gone)))
        if isinstance(step, AnalysisStep)
        else step
        for step in wish.strategy.canary.steps
    )
    canary = replace(wish.strategy.canary, steps=steps)
    analysis = replace(wish.analysis, metrics=metrics, prometheus=None)
    return replace(wish, analysis=analysis, strategy=replace(wish.strategy, canary=canary))


def _left(margins: Mapping[str, Percentage], gone: set[str]) -> dict[str, Percentage]:
    return {name: margin for name, margin in margins.items() if name not in gone}


def simulate(wish: DeploymentSpec, truth: Truth, *, seed: int = 0) -> Simulated:
    """Bring one version in, over a world in which `truth` is so.

    Args:
        wish: strategy, analysis and replicas; the alias is kept after a rollback.
        truth: what is really so.
        seed: of all chances.

    Raises:
        BadInput: a rate is none, or the rollout waits for people.
    """
    wish = without_queries(wish)
    _check(wish, truth)
    predicted = any(metric.name == DRIFT for metric in wish.analysis.metrics)
    traffic = Traffic(truth, random.Random(seed), random.Random(seed) if predicted else None)  # noqa: S311  no secrets
    records, registry = Records(), Registry()
    model = replace(wish.model, name=_NAME, alias="champion", version=None)
    spec = replace(wish, model=model, rollback=replace(wish.rollback, alias="Keep"), paused=False)
    records.write(ModelDeployment(metadata=Metadata(name=_NAME), spec=spec))
    for _ in _looks(traffic, records, registry, STABLE):
        pass
    for _ in range(int(BEFORE_S / EVERY_S)):
        traffic.pass_time(EVERY_S)
    start, weights = traffic.now, [(0.0, 0)]
    for attempt in _looks(traffic, records, registry, CANARY):
        share = traffic.in_force.get(attempt.spec.arm, 0)
        if share != weights[-1][1]:
            weights.append((round(traffic.now - start, 1), share))
    return _told(records.rollouts(_KEY)[-1], traffic, truth, start, tuple(weights))


def _looks(traffic: Traffic, records: Records, registry: Registry, version: str) -> Iterator[ModelRollout]:
    """Name a version, and look until all is at rest; gives the attempt after each look."""
    registry.named = version
    yard = world(traffic, records, registry)
    while True:
        again = look(yard, _KEY, now=traffic.now)
        attempt = records.rollouts(_KEY)[-1]
        yield attempt
        if again is None and has_ended(attempt):
            return
        if again is None or again > traffic.now:
            traffic.pass_time(EVERY_S)


def _told(
    attempt: ModelRollout, traffic: Traffic, truth: Truth, start: float, weights: tuple[tuple[float, int], ...]
) -> Simulated:
    verdict = attempt.status.verdict
    assert verdict is not None
    counts = traffic.served.get(attempt.spec.arm, Counts(at=traffic.now, requests=0, errors=0))
    at = {each["event"]: float(each["at"]) for each in attempt.status.timeline}
    decided = at.get("Promoting", at.get("RollingBack", traffic.now))
    return Simulated(
        verdict=verdict,
        promoted=verdict.lets_through,
        seconds=round(traffic.now - start, 1),
        verdict_s=round(max(0.0, decided - at.get("FirstCanaryResponse", decided)), 1),
        canary_requests=counts.requests,
        canary_errors=counts.errors,
        harmed=max(0, round(counts.errors - counts.requests * truth.errors)),
        weights=weights,
    )


def _check(wish: DeploymentSpec, truth: Truth) -> None:
    worst = truth.errors + truth.regression
    if not (0 <= truth.errors <= 1 and 0 <= worst <= 1):
        raise BadInput(f"errors {truth.errors:g} with a regression of {truth.regression:g}", do="keep both in 0 to 1")
    if truth.rps <= 0 or truth.median_ms <= 0 or truth.slower <= -1 or truth.ready_s < 0:
        raise BadInput("a rate or a time of the simulation is not positive", do="give rps and latency above 0")
    if not 0 <= truth.drift <= 0.9:
        raise BadInput(f"a drift of {truth.drift:g}", do="keep it in 0 to 0.9")
    steps = wish.strategy.canary.steps
    if any(isinstance(each, PauseStep) and each.pause.duration is None for each in steps):
        raise BadInput("a pause without a duration waits for people", do="give it a duration for the simulation")
    if wish.analysis.on_inconclusive == "Pause":
        raise BadInput("analysis.onInconclusive: Pause waits for people", do="simulate with Rollback")
