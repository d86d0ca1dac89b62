"""What the phases share: a plan, and small questions to an observation."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from modelyard.rollout.intents import EnsureArm, Intent, RetireArm, SetWeights
from modelyard.rollout.observation import Arm, Memory, Observation, Still
from modelyard.rollout.states import enter
from modelyard.spec.rollout import ModelRollout, Phase, RolloutStatus, RolloutWeights
from modelyard.verdict import Verdict

SOON_S = 0.5
"""When to look again while something is on its way."""
STILL_S = 1.0
"""How long the counters of an arm without traffic must stand still before it is drained."""
SKEW_S = 5.0
"""A recorded time that lies further in the future shows that the clock was set back."""
EVENTS = 40
"""Events that an attempt's timeline keeps."""


class Plan(NamedTuple):
    """A phase's answer."""

    attempt: ModelRollout | None
    """As it is to be recorded."""
    memory: Memory
    acts: tuple[Intent, ...] = ()
    """After the record."""
    first: tuple[Intent, ...] = ()
    """Before the record: what must have happened once the record says so, and may happen twice."""
    again: float | None = None


def rewound(seen: Observation) -> Observation:
    """The observation without times of the future: after a clock was set back, waits begin anew instead of for ever."""
    if seen.attempt is None or seen.attempt.status.ended_at is not None:
        return seen
    status, latest = seen.attempt.status, seen.now + SKEW_S
    times = {"started_at": status.started_at, "step_since": status.step_since, "updated_at": status.updated_at}
    late: dict[str, float] = {name: seen.now for name, at in times.items() if at > latest}
    if status.paused_since is not None and status.paused_since > latest:
        late["paused_since"] = seen.now
    return replace(seen, attempt=with_status(seen.attempt, replace(status, **late))) if late else seen  # type: ignore[arg-type]


def with_status(rollout: ModelRollout, status: RolloutStatus) -> ModelRollout:
    """A copy with another status."""
    return replace(rollout, status=status)


def the_attempt(seen: Observation) -> ModelRollout:
    """The attempt, where a phase knows that there is one."""
    assert seen.attempt is not None
    return seen.attempt


def noted(status: RolloutStatus, event: str, message: str, *, at: float) -> RolloutStatus:
    """The status with an event on its timeline; the first of its name stands."""
    if any(each["event"] == event for each in status.timeline) or len(status.timeline) >= EVENTS:
        return status
    return replace(status, timeline=(*status.timeline, {"at": round(at, 3), "event": event, "message": message}))


def entered(rollout: ModelRollout, phase: Phase, *, now: float, why: str) -> ModelRollout:
    """The attempt at the beginning of another phase."""
    return with_status(rollout, noted(enter(rollout.status, phase, now=now), phase.value, why, at=now))


def weighed(seen: Observation, attempt: ModelRollout) -> ModelRollout:
    """The attempt with the weights as they were observed: asked, and confirmed by the router."""
    observed = RolloutWeights(asked=seen.weights.asked, confirmed=seen.weights.confirmed or {})
    return with_status(attempt, replace(attempt.status, weights=observed))


def canary(seen: Observation) -> Arm | None:
    """The attempt's arm, if it is there and serves the attempt's bytes."""
    attempt = the_attempt(seen)
    arm = seen.arms.get(attempt.spec.arm)
    return arm if arm is not None and arm.digest == attempt.spec.digest else None


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


class Leaving(NamedTuple):
    """Arms on their way out."""

    zeros: Mapping[str, int]
    """Those that the route still has to name, at weight 0, because they have not drained."""
    retire: tuple[Intent, ...]
    """Those that nothing names any more."""
    still: Mapping[str, Still]


def leaving(seen: Observation, keep: frozenset[str]) -> Leaving:
    """See the arms out that are not in `keep`.

    The order: weight 0 asked and confirmed; drained; no longer named by the route; that confirmed; retired. Only a route
    that names an arm can be changed to give it traffic, and each change needs the version of the route that was read:
    so a loop that slept meanwhile cannot send requests to an arm that is gone.
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


def same_verdict(one: Verdict | None, other: Verdict) -> bool:
    """Whether only the words differ: a message that counts seconds is no news."""
    return one is not None and (one.outcome, one.reason) == (other.outcome, other.reason)
