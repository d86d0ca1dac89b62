"""What the phases share: a plan, and changes of an attempt's status."""

from dataclasses import replace
from typing import NamedTuple

from modelyard.rollout.intents import Intent
from modelyard.rollout.observation import Memory, Observation
from modelyard.rollout.states import enter
from modelyard.spec.rollout import ModelRollout, Phase, RolloutStatus, RolloutWeights

SOON_S = 0.5
"""When to look again while something is on its way."""
READY_S = 0.2
"""... while a server is starting: what is waited for here is what users wait for."""
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
