"""The decision: a pure function from what was seen to what is to be done. One file for each phase of an attempt.

Level-triggered: a phase looks at the world as it is and asks for what is missing. What is recorded comes first and what
acts comes after it, so that a loop killed between the two finds in the record what it has to do again.
"""

from modelyard.rollout.decide import pending, progressing, promoting, rolling_back, starting, status, steady
from modelyard.rollout.decide.plan import Plan, rewound
from modelyard.rollout.intents import Decision, Intent, Record
from modelyard.rollout.observation import Observation
from modelyard.rollout.states import has_ended
from modelyard.spec.rollout import Phase

__all__ = ["decide"]

PHASES = {
    Phase.PENDING: pending.plan,
    Phase.STARTING: starting.plan,
    Phase.PROGRESSING: progressing.plan,
    Phase.PROMOTING: promoting.plan,
    Phase.ROLLING_BACK: rolling_back.plan,
}

CHECKPOINT_S = 10.0
"""Evidence alone is written at most this often."""


def decide(seen: Observation) -> Decision:
    """What to do now, and when to look again."""
    now = rewound(seen)
    if now.wish.spec.paused:
        plan = Plan(attempt=now.attempt, memory=now.memory)
    elif now.attempt is None or has_ended(now.attempt):
        plan = steady.plan(now)
    else:
        plan = PHASES[now.attempt.status.phase](now)
    at_once = plan.again is not None and plan.again <= seen.now and not seen.trouble
    said = () if at_once else status.recorded(seen, plan.attempt)  # what is over in a moment need not be told
    acts = (*plan.first, *_recorded(seen, plan), *plan.acts)
    # What could not be done the last time may fail again, and then nobody would read why.
    intents = (*said, *acts) if seen.trouble else (*acts, *said)
    return Decision(intents=intents, look_again_at=plan.again, memory=plan.memory)


def _recorded(seen: Observation, plan: Plan) -> tuple[Intent, ...]:
    """The attempt's record where it changed, or where its evidence is due."""
    if plan.attempt is None:
        return ()
    name, memory = plan.attempt.metadata.name, plan.memory
    evidence = memory.evidence if memory.rollout == name and memory.evidence != seen.checkpoint else None
    changed = plan.attempt != seen.attempt
    due = evidence is not None and (plan.acts or seen.now - plan.attempt.status.updated_at >= CHECKPOINT_S)
    if not changed and not due:
        return ()
    if plan.attempt.metadata.resource_version == "":
        return (Record(record=plan.attempt),)
    return (Record(record=status.stamped(plan.attempt, seen.now), evidence=evidence),)
