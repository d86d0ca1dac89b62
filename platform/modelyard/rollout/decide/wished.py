"""What the wish names, with flapping calmed: an alias that moves to and fro must not start an arm each time.

A move is followed at once, but where it would supersede an attempt, or follows one that was superseded: there, moves
within `QUIET_S` of the one before are one burst, which is followed when the alias has stood still for `QUIET_S`, and
after `PATIENCE_S` in any case, wherever it stands then.
"""

from collections.abc import Mapping
from typing import Any

from modelyard.rollout.decide.plan import SKEW_S
from modelyard.rollout.observation import Observation, Target, arm_name
from modelyard.rollout.states import has_ended
from modelyard.verdict import Reason, Verdict

QUIET_S = 5.0
PATIENCE_S = 60.0


def alias_status(seen: Observation) -> Mapping[str, Any]:
    """`status.alias` of the wish: what was last observed, since when, and since when it has not been quiet."""
    before = seen.wish.status.alias
    if isinstance(seen.target, Verdict):
        return before
    model = seen.wish.spec.model
    arm = arm_name(seen.target.digest, seen.wish.spec)
    now = round(seen.now, 3)
    observed, since = float(before.get("observedAt", 0.0)), float(before.get("since", 0.0))
    if before.get("arm") == arm and before.get("version") == seen.target.version and observed <= now + SKEW_S:
        return before
    burst = since if before and 0 <= now - observed < QUIET_S and _restless(seen) else now
    named = {"name": model.alias} if model.alias else {}
    return {
        **named,
        "version": seen.target.version,
        "digest": seen.target.digest,
        "arm": arm,
        "observedAt": now,
        "since": burst,
    }


def _restless(seen: Observation) -> bool:
    """Whether an attempt is under way, or the last one was superseded."""
    if seen.attempt is None:
        return False
    verdict = seen.attempt.status.verdict
    return not has_ended(seen.attempt) or (verdict is not None and verdict.reason is Reason.SUPERSEDED)


def followed(seen: Observation) -> Target | None:
    """The target, once it is to be followed; None: unknown, or it is flapping."""
    if isinstance(seen.target, Verdict) or calm_at(seen) > seen.now:
        return None
    return seen.target


def is_lost(seen: Observation) -> bool:
    """Whether the wish names nothing that could be served: an attempt then goes no step further, and stable stays.

    A registry that is away says nothing about the wish, so it holds up nothing.
    """
    return isinstance(seen.target, Verdict) and seen.target.reason is not Reason.REGISTRY_UNAVAILABLE


def may_move_alias(seen: Observation) -> bool:
    """Whether the alias may be moved: the wish says so, and nobody else follows it."""
    spec = seen.wish.spec
    return spec.rollback.alias == "Restore" and spec.model.alias is not None and seen.followers <= 1


def calm_at(seen: Observation) -> float:
    """When the target may be followed, if it stays as it is."""
    alias = alias_status(seen)
    if not alias or alias["since"] == alias["observedAt"]:
        return 0.0
    return min(float(alias["observedAt"]) + QUIET_S, float(alias["since"]) + PATIENCE_S)


def superseded_by(seen: Observation) -> Target | None:
    """The target, where it is neither the attempt's arm nor what the wish named when the attempt was made."""
    target = followed(seen)
    if target is None or seen.attempt is None:
        return None
    arm = arm_name(target.digest, seen.wish.spec)
    return None if arm in (seen.attempt.spec.arm, seen.attempt.spec.wished) else target
