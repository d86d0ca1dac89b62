"""What the wish's status says: what was observed, never what is wished. Nothing new, nothing written."""

from dataclasses import replace

from modelyard.rollout.decide import sides
from modelyard.rollout.decide.wished import alias_status
from modelyard.rollout.intents import Intent, Record
from modelyard.rollout.observation import REFUSED, TROUBLE, Observation, arm_name
from modelyard.rollout.states import has_ended
from modelyard.spec.deployment import CanaryStatus, Condition, DeploymentStatus, ModelDeployment, StableStatus
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Reason, Verdict

VERIFIED_NOT = frozenset({Reason.DIGEST_MISMATCH, Reason.ARTIFACT_MISSING})
UNSEEN_S = 20.0
"""Seconds without counters after which people are told: one scrape that was missed is no news."""


def stamped(rollout: ModelRollout, now: float) -> ModelRollout:
    """The attempt with the time of this write."""
    return replace(rollout, status=replace(rollout.status, updated_at=round(now, 3)))


def recorded(seen: Observation, attempt: ModelRollout | None) -> tuple[Intent, ...]:
    """The wish's record, where its status has become another."""
    wish = seen.wish
    status = _status(seen, attempt if attempt is not None else seen.attempt)
    return () if status == wish.status else (Record(record=replace(wish, status=status)),)


def _status(seen: Observation, attempt: ModelRollout | None) -> DeploymentStatus:
    return DeploymentStatus(
        observed_generation=seen.wish.metadata.generation,
        stable=_stable(seen),
        canary=_canary(seen, attempt),
        alias=alias_status(seen),
        rollout=None if attempt is None else attempt.metadata.name,
        conditions=tuple(_dated(each, seen.wish, seen.now) for each in _conditions(seen, attempt)),
    )


def _stable(seen: Observation) -> StableStatus | None:
    stable = seen.stable
    if stable is None:
        return None
    replicas = sides.ready(seen.arms.get(stable.arm))
    return StableStatus(version=stable.version, digest=stable.digest, arm=stable.arm, ready_replicas=replicas)


def _canary(seen: Observation, attempt: ModelRollout | None) -> CanaryStatus | None:
    if attempt is None:
        return None
    verdict = attempt.status.verdict
    came_to = "" if verdict is None else f"{verdict.outcome}: {verdict.reason}"
    if has_ended(attempt):
        return CanaryStatus(verdict=came_to)
    return CanaryStatus(
        version=attempt.spec.version,
        weight=(seen.weights.confirmed or {}).get(attempt.spec.arm, 0),
        step=f"{attempt.status.step}/{len(attempt.spec.steps)}",
        verdict=came_to,
    )


def _dated(condition: Condition, wish: ModelDeployment, now: float) -> Condition:
    """`lastTransitionTime` moves only when `status` flips."""
    before = next((each for each in wish.status.conditions if each.type == condition.type), None)
    at = round(now, 3) if before is None or before.status != condition.status else before.last_transition_time
    return replace(condition, last_transition_time=at, observed_generation=wish.metadata.generation)


def _conditions(seen: Observation, attempt: ModelRollout | None) -> tuple[Condition, ...]:
    return (_ready(seen), _progressing(seen, attempt), _degraded(seen), _verified(seen))


def _ready(seen: Observation) -> Condition:
    stable = seen.stable
    if stable is None:
        return Condition(type="Ready", status="False", reason="NoStable", message="no version has become stable yet")
    if not sides.ready(seen.arms.get(stable.arm)):
        message = f"no replica of version {stable.version} has answered since its last start"
        return Condition(type="Ready", status="False", reason="StableNotReady", message=message)
    message = f"version {stable.version} answers"
    return Condition(type="Ready", status="True", reason="StableReady", message=message)


def _progressing(seen: Observation, attempt: ModelRollout | None) -> Condition:
    if seen.wish.spec.paused:
        message = "the wish is paused: it is left alone"
        return Condition(type="Progressing", status="Unknown", reason="Paused", message=message)
    if attempt is None:
        return Condition(type="Progressing", status="False", reason="NoRollout", message="nothing was rolled out yet")
    name, phase, verdict = attempt.metadata.name, attempt.status.phase, attempt.status.verdict
    if has_ended(attempt):
        reason = verdict.reason.value if verdict else phase.value
        message = f"{name}: {verdict.message if verdict else phase}"
        return Condition(type="Progressing", status="False", reason=reason, message=message)
    reason = "Paused" if attempt.spec.paused else phase.value
    step = f", step {attempt.status.step + 1} of {len(attempt.spec.steps)}" if phase is Phase.PROGRESSING else ""
    message = f"{name}: version {attempt.spec.version}{step}"
    unseen = seen.memory.unseen_since
    if phase is Phase.PROGRESSING and unseen is not None and seen.now - unseen >= UNSEEN_S:
        reason = Reason.NO_EVIDENCE.value
        message = f"{message}: no counters of what clients got (router or Prometheus away?), so nothing is judged"
    return Condition(type="Progressing", status="True", reason=reason, message=message)


def _degraded(seen: Observation) -> Condition:
    """True where what serves is not what is wished, and nothing is under way that would change it."""
    if seen.trouble is not None:
        reason = REFUSED if seen.trouble.refused else TROUBLE
        return Condition(type="Degraded", status="True", reason=reason, message=seen.trouble.message)
    if isinstance(seen.target, Verdict):
        return Condition(type="Degraded", status="True", reason=seen.target.reason.value, message=seen.target.message)
    arm = arm_name(seen.target.digest, seen.wish.spec)
    if arm in seen.failed and (seen.stable is None or seen.stable.arm != arm):
        ended = f"version {seen.target.version} is not tried again since {seen.failed[arm]}"
        message = f"{ended}: `modelyard rollout retry` does it"
        return Condition(type="Degraded", status="True", reason="TargetFailed", message=message)
    return Condition(type="Degraded", status="False", reason="AsWished", message="")


def _verified(seen: Observation) -> Condition:
    if isinstance(seen.target, Verdict):
        status = "False" if seen.target.reason in VERIFIED_NOT else "Unknown"
        return Condition(type="Verified", status=status, reason=seen.target.reason.value, message=seen.target.message)  # type: ignore[arg-type]
    arm = seen.arms.get(arm_name(seen.target.digest, seen.wish.spec))
    if sides.ready(arm):
        message = f"{seen.target.digest} answers"
        return Condition(type="Verified", status="True", reason="DigestVerified", message=message)
    return Condition(
        type="Verified", status="Unknown", reason="NotServed", message=f"{seen.target.digest} has not been started"
    )
