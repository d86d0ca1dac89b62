"""Steady: no attempt is under way. Stable is kept as wished, arms without a task seen out, a new target started."""

from dataclasses import replace

from modelyard.rollout.capacity import total
from modelyard.rollout.decide import sides
from modelyard.rollout.decide.plan import SOON_S, Plan
from modelyard.rollout.decide.wished import calm_at, followed
from modelyard.rollout.intents import Forget, Intent
from modelyard.rollout.observation import Memory, Observation, Target, arm_name
from modelyard.spec.deployment import AnalysisGate, AnalysisStep, DeploymentSpec, Step
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import ModelRollout, RolloutSpec
from modelyard.verdict import Verdict


def plan(seen: Observation) -> Plan:
    """Keep, tidy, start."""
    stable = seen.stable
    out = sides.leaving(seen, frozenset() if stable is None else frozenset({stable.arm}))
    shares = {} if stable is None else {stable.arm: 100}
    acts: tuple[Intent, ...] = (
        *sides.ensure_stable(seen, total(seen.wish.spec.least)),
        *sides.route(seen, shares and {**out.zeros, **shares}),
        *out.retire,
        *(Forget(record=each) for each in seen.forgettable),
    )
    memory = Memory(still=out.still)
    target = followed(seen)
    fresh = None if target is None else startable(seen, target)
    if fresh is not None:
        return Plan(fresh, memory, acts=acts, again=seen.now)
    return Plan(None, memory, acts=acts, again=_again(seen, acts=bool(acts), out=bool(out.still or out.zeros)))


def _again(seen: Observation, *, acts: bool, out: bool) -> float | None:
    """Soon while anything is on its way; when the alias has come to rest; else only when something changes."""
    stable = seen.stable
    arm = None if stable is None else seen.arms.get(stable.arm)
    whole = stable is None or (arm is not None and arm.ready >= total(seen.wish.spec.least))
    confirmed = seen.weights.confirmed
    quiet = whole and confirmed is not None and dict(confirmed) == dict(seen.weights.asked)
    if acts or out or not quiet:
        return seen.now + SOON_S
    if isinstance(seen.target, Verdict):
        return None
    calm = calm_at(seen)
    return calm if calm > seen.now else None


def startable(seen: Observation, target: Target) -> ModelRollout | None:
    """A new attempt for what the wish names, unless that is stable already, or failed and nobody asked again."""
    arm = arm_name(target.digest, seen.wish.spec)
    if (seen.stable is not None and seen.stable.arm == arm) or arm in seen.failed:
        return None
    return attempt_for(
        seen.wish.metadata,
        seen.wish.spec,
        number=seen.attempts + 1,
        version=target.version,
        digest=target.digest,
        arm=arm,
        wished=arm,
        previous=_previous(seen),
    )


def _previous(seen: Observation) -> dict[str, str]:
    stable = seen.stable
    return {} if stable is None else {"version": stable.version, "digest": stable.digest, "arm": stable.arm}


def attempt_for(
    owner: Metadata,
    serving: DeploymentSpec,
    *,
    number: int,
    version: str,
    digest: str,
    arm: str,
    wished: str,
    previous: dict[str, str],
    asked: bool = False,
) -> ModelRollout:
    """A new attempt, as it is first recorded. Its number makes its name: two that ask at once make one.

    `asked` marks one that a person asked for (retry, undo) with the label `modelyard.dev/asked`.
    """
    name = f"{owner.name}-{number:05d}"
    spec = RolloutSpec(
        deployment=owner.name,
        version=version,
        digest=digest,
        arm=arm,
        wished=wished,
        serving=replace(serving, paused=False),
        steps=analysed(serving.strategy.canary.steps) if previous else (),
        previous=previous,
    )
    labels = {"modelyard.dev/deployment": owner.name, **({"modelyard.dev/asked": "true"} if asked else {})}
    return ModelRollout(metadata=Metadata(name=name, namespace=owner.namespace, labels=labels), spec=spec)


def analysed(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps, ended by a wait for the verdict where they name none: without evidence nothing is promoted."""
    if not steps or any(isinstance(each, AnalysisStep) for each in steps):
        return steps
    return (*steps, AnalysisStep(analysis=AnalysisGate()))
