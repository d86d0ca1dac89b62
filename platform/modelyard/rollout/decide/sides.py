"""Two sides of a rollout: questions to what was observed of arms and weights, and what to ask of them."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from modelyard.rollout.capacity import total
from modelyard.rollout.decide.plan import SKEW_S, the_attempt
from modelyard.rollout.intents import EnsureArm, Intent, RetireArm, SetWeights
from modelyard.rollout.observation import Arm, Observation, Still
from modelyard.spec.rollout import ModelRollout

STILL_S = 1.0
"""How long the counters of an arm without traffic must stand still before it is drained."""


def canary(seen: Observation) -> Arm | None:
    """The attempt's arm, if it is there and serves the attempt's bytes."""
    attempt = the_attempt(seen)
    arm = seen.arms.get(attempt.spec.arm)
    return arm if arm is not None and arm.digest == attempt.spec.digest else None


def baseline(seen: Observation) -> str:
    """The name of the fresh copy of stable that the canary is compared with; empty where it is stable itself."""
    return "" if seen.stable is None else baseline_of(the_attempt(seen), seen.stable.arm)


def baseline_of(attempt: ModelRollout, stable: str) -> str:
    """The name of an attempt's fresh copy of the arm `stable`; empty where it has none.

    Another attempt has another copy: one that is on its way out is neither fresh nor to be taken back.
    """
    if not attempt.spec.steps or not attempt.spec.serving.analysis.baseline:
        return ""
    return "b" + hashlib.sha256(f"{stable} {attempt.metadata.name}".encode()).hexdigest()[:9]


def compared(seen: Observation) -> str:
    """The arm that the canary is compared with; empty where there is none."""
    return baseline(seen) or (seen.stable.arm if seen.stable is not None else "")


def walking(seen: Observation) -> frozenset[str]:
    """The arms that an attempt needs while its steps are walked."""
    names = {the_attempt(seen).spec.arm, baseline(seen), seen.stable.arm if seen.stable is not None else ""}
    return frozenset(names - {""})


def both_ready(seen: Observation) -> int:
    """Replicas that are ready of the canary, and of its baseline where it has one."""
    beside, count = baseline(seen), ready(canary(seen))
    return min(count, ready(seen.arms.get(beside))) if beside else count


def ready(arm: Arm | None) -> int:
    """Ready replicas; none of what is not there."""
    return 0 if arm is None else arm.ready


def nonzero(weights: Mapping[str, int] | None) -> dict[str, int]:
    """Only the arms that get traffic."""
    return {arm: share for arm, share in (weights or {}).items() if share}


def believed(seen: Observation, wanted: Mapping[str, int]) -> bool:
    """Whether the router was asked for these shares *and* says that it deals them out."""
    weights = seen.weights
    return weights.confirmed is not None and nonzero(weights.asked) == nonzero(weights.confirmed) == nonzero(wanted)


def everything(seen: Observation) -> int:
    """Replicas that carry all traffic during an attempt: the largest of wish, attempt, and what stable was scaled to.

    Nothing shrinks meanwhile: an autoscaler that sees stable's share go would shrink it, and a rollback would overload
    it (Flagger #1600, #869). A floor that follows its last count upwards keeps it.
    """
    arm = None if seen.stable is None else seen.arms.get(seen.stable.arm)
    scaled = 0 if arm is None or not arm.scaled else max(arm.scaled, arm.replicas)
    return total(seen.wish.spec.least, the_attempt(seen).spec.serving.least, scaled)


def route(seen: Observation, wanted: Mapping[str, int]) -> tuple[Intent, ...]:
    """Ask for these weights, unless they are asked for already. Traffic never moves to an arm that cannot answer."""
    asked = seen.weights.asked
    if dict(asked) == dict(wanted):
        return ()
    if any(share > asked.get(arm, 0) and not ready(seen.arms.get(arm)) for arm, share in wanted.items()):
        return ()
    return (SetWeights(weights=dict(wanted), expected=seen.weights.resource_version),)


def ensure_stable(seen: Observation, replicas: int) -> tuple[Intent, ...]:
    """Let stable be there, as its own attempt froze it."""
    stable = seen.stable
    if stable is None:
        return ()
    arm = seen.arms.get(stable.arm)
    if arm is not None and arm.replicas == replicas:
        return ()
    return (
        EnsureArm(
            name=stable.arm,
            version=stable.version,
            digest=stable.digest,
            replicas=replicas,
            serving=stable.serving,
            rollout=arm.rollout if arm is not None else stable.rollout,
            expected="" if arm is None else arm.resource_version,
        ),
    )


def ensure_canary(seen: Observation, replicas: int) -> tuple[Intent, ...]:
    """Let the attempt's arm be there with at least this many replicas."""
    attempt = the_attempt(seen)
    arm = seen.arms.get(attempt.spec.arm)
    name = attempt.metadata.name
    if arm is not None and arm.replicas >= replicas and arm.rollout == name:
        return ()
    return (
        EnsureArm(
            name=attempt.spec.arm,
            version=attempt.spec.version,
            digest=attempt.spec.digest,
            replicas=replicas if arm is None else max(replicas, arm.replicas),
            serving=attempt.spec.serving,
            rollout=name,
            expected="" if arm is None else arm.resource_version,
        ),
    )


def ensure_baseline(seen: Observation, replicas: int) -> tuple[Intent, ...]:
    """Let a fresh copy of stable be there with at least as many replicas as the canary, where one is asked for."""
    name, stable, attempt = baseline(seen), seen.stable, the_attempt(seen).metadata.name
    if not name or stable is None:
        return ()
    arm = seen.arms.get(name)
    if arm is not None and arm.replicas >= replicas and arm.rollout == attempt:
        return ()
    return (
        EnsureArm(
            name=name,
            version=stable.version,
            digest=stable.digest,
            replicas=replicas if arm is None else max(replicas, arm.replicas),
            serving=stable.serving,
            rollout=attempt,
            expected="" if arm is None else arm.resource_version,
        ),
    )


class Leaving(NamedTuple):
    """Arms on their way out."""

    zeros: Mapping[str, int]
    """Those that the route still has to name, at weight 0, because they have not drained."""
    retire: tuple[Intent, ...]
    """Those that nothing names any more."""
    still: Mapping[str, Still]


def leaving(seen: Observation, keep: frozenset[str]) -> Leaving:
    """See the arms out that are not in `keep`.

    The order: weight 0 asked and confirmed; drained; no longer named by the route; that confirmed; retired. Only a
    route that names an arm can be changed to give it traffic, and each change needs the version of the route that was
    read: so a loop that slept meanwhile cannot send requests to an arm that is gone.
    """
    confirmed = seen.weights.confirmed
    named = set(seen.weights.asked) | set(confirmed or {})
    zeros: dict[str, int] = {}
    still: dict[str, Still] = {}
    retire: list[Intent] = []
    for name in sorted((named | set(seen.arms)) - keep):
        arm = seen.arms.get(name)
        silent = confirmed is not None and not seen.weights.asked.get(name) and not confirmed.get(name)
        if silent and arm is not None:
            still[name] = _stillness(seen, name)
        if arm is None:
            continue  # nothing is left to wait for: the route forgets it at once
        drained = silent and _drained(seen, arm, still[name])
        if name in seen.weights.asked and not drained:
            zeros[name] = 0
        if drained and name not in named and arm.replicas:
            retire.append(RetireArm(name=name, expected=arm.resource_version))
    return Leaving(zeros, tuple(retire), still)


def _stillness(seen: Observation, name: str) -> Still:
    counts = seen.counts.get(name)
    current = None if counts is None else counts.requests
    before = seen.memory.still.get(name)
    if before is None or before.requests != current or before.since > seen.now + SKEW_S:
        return Still(requests=current, since=seen.now)
    return before


def _drained(seen: Observation, arm: Arm, still: Still) -> bool:
    """Answered all it had, and nothing new came; a request that hangs is waited for as long as a request may take."""
    quiet = seen.now - still.since
    patience = 2 * seen.wish.spec.traffic.timeout.seconds
    known = still.requests is not None or not arm.ready
    return quiet >= (STILL_S if arm.in_flight == 0 and known else max(STILL_S, patience))
