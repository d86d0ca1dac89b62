"""The life of an attempt, as a table. The diagram in `docs/rollout.md` is drawn from it."""

from dataclasses import replace
from typing import NamedTuple

from modelyard.spec.rollout import ModelRollout, Phase, RolloutStatus

ENDED = frozenset({Phase.SUCCESSFUL, Phase.FAILED})
"""Nothing follows these."""


class Transition(NamedTuple):
    """One line of the table."""

    before: Phase | None
    """None: there is no attempt."""
    after: Phase
    why: str


TRANSITIONS = (
    Transition(None, Phase.PENDING, "the alias names another arm; or retry, undo"),
    Transition(Phase.PENDING, Phase.STARTING, "recorded; its arm is asked for"),
    Transition(Phase.PENDING, Phase.ROLLING_BACK, "aborted or superseded"),
    Transition(Phase.STARTING, Phase.PROGRESSING, "the arm is ready"),
    Transition(Phase.STARTING, Phase.PROMOTING, "the arm is ready, and there is no stable or no step"),
    Transition(Phase.STARTING, Phase.ROLLING_BACK, "cannot become ready; aborted or superseded"),
    Transition(Phase.PROGRESSING, Phase.PROMOTING, "all steps are done"),
    Transition(Phase.PROGRESSING, Phase.ROLLING_BACK, "analysis failed or inconclusive; lost; aborted or superseded"),
    Transition(Phase.PROMOTING, Phase.SUCCESSFUL, "weight 100 is confirmed"),
    Transition(Phase.PROMOTING, Phase.ROLLING_BACK, "analysis failed; cannot become ready; aborted"),
    Transition(Phase.ROLLING_BACK, Phase.FAILED, "weight 0 is confirmed, the arm drained and gone, alias and tags set"),
)


def allowed(before: Phase | None, after: Phase) -> bool:
    """Whether the table has this transition."""
    return any((line.before, line.after) == (before, after) for line in TRANSITIONS)


def has_ended(rollout: ModelRollout) -> bool:
    """Whether nothing follows any more."""
    return rollout.status.phase in ENDED


def enter(status: RolloutStatus, phase: Phase, *, now: float) -> RolloutStatus:
    """The status at the beginning of another phase.

    Raises:
        ValueError: the table has no such transition: a fault in the loop, never in its input.
    """
    if not allowed(status.phase, phase):
        raise ValueError(f"{status.phase} → {phase} is not in the table of transitions")
    ended = now if phase in ENDED else None
    return replace(status, phase=phase, step_since=now, ended_at=ended)


def diagram() -> str:
    """The table as a mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {line.before or '[*]'} --> {line.after}: {line.why.replace(';', ',')}" for line in TRANSITIONS]
    lines += [f"    {phase} --> [*]" for phase in Phase if phase in ENDED]
    return "\n".join(lines) + "\n"
