"""Rolling back: weight to stable at once, then the arm is seen out, then the alias and the version's tags follow."""

from dataclasses import replace

from modelyard.rollout.decide import sides
from modelyard.rollout.decide.plan import SOON_S, Plan, entered, noted, the_attempt, weighed, with_status
from modelyard.rollout.decide.wished import may_move_alias
from modelyard.rollout.intents import Intent, MoveAlias, TagVersion
from modelyard.rollout.observation import Observation, Target
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Outcome, Reason, Verdict

UNMARKED = frozenset({Reason.SUPERSEDED, Reason.CANARY_UNAVAILABLE, Reason.PROGRESS_DEADLINE})
"""Inconclusive for one of these, an attempt says nothing about the version itself."""

ALIAS_MOVED = "AliasRestored"


def begin(seen: Observation, verdict: Verdict) -> Plan:
    """The verdict is recorded; in the same look the weight goes back."""
    attempt = entered(the_attempt(seen), Phase.ROLLING_BACK, now=seen.now, why=f"{verdict.reason}: {verdict.message}")
    return plan(replace(seen, attempt=with_status(attempt, replace(attempt.status, verdict=verdict))))


def plan(seen: Observation) -> Plan:
    """Weight 0 confirmed, drained, retired; alias and tag; the end."""
    attempt = weighed(seen, the_attempt(seen))
    arm, stable = attempt.spec.arm, seen.stable
    keep = frozenset() if stable is None else frozenset({stable.arm})
    out = sides.leaving(seen, keep)
    memory = replace(seen.memory, still=out.still)
    acts: tuple[Intent, ...] = (
        *sides.route(seen, _weights(seen, out)),
        *sides.ensure_stable(seen, sides.everything(seen)),
        *out.retire,
    )
    first: tuple[Intent, ...] = ()
    confirmed = seen.weights.confirmed
    if confirmed is not None and not confirmed.get(arm) and not seen.weights.asked.get(arm):
        attempt = with_status(
            attempt, noted(attempt.status, "WeightZeroConfirmed", f"arm {arm} gets no traffic", at=seen.now)
        )
        first = _alias(seen)
        if first:
            attempt = with_status(
                attempt, noted(attempt.status, ALIAS_MOVED, "alias goes back to what it named before", at=seen.now)
            )
    named = seen.arms.keys() | seen.weights.asked.keys() | (confirmed or {}).keys()
    gone = confirmed is not None and not {arm, sides.baseline(seen)} & named
    if not gone or acts or first or not _settled(seen):
        return Plan(attempt, memory, first=first, acts=acts, again=seen.now + SOON_S)
    after = seen.target.version if isinstance(seen.target, Target) else None
    attempt = with_status(attempt, replace(attempt.status, alias={**attempt.status.alias, "after": after}))
    verdict = attempt.status.verdict
    assert verdict is not None
    ended = entered(attempt, Phase.FAILED, now=seen.now, why=verdict.message)
    return Plan(ended, memory, first=_tag(attempt, verdict), again=seen.now)


def _weights(seen: Observation, out: sides.Leaving) -> dict[str, int]:
    """All to stable, as soon as it can answer: until then a failing arm is better than none (`route` sees to that)."""
    return {} if seen.stable is None else {**out.zeros, seen.stable.arm: 100}


def _alias(seen: Observation) -> tuple[Intent, ...]:
    """Put the alias back to what it named before, if it may be, and still names what failed."""
    attempt, model = the_attempt(seen), seen.wish.spec.model
    before = attempt.spec.previous.get("version")
    if not may_move_alias(seen) or model.alias is None or before is None:
        return ()
    if not isinstance(seen.target, Target) or seen.target.version != attempt.spec.version:
        return ()
    if any(each["event"] == ALIAS_MOVED for each in attempt.status.timeline):
        return ()
    if _reason(attempt) is Reason.SUPERSEDED or before == attempt.spec.version:
        return ()
    return (MoveAlias(model=model.name, alias=model.alias, version=before, expected=attempt.spec.version),)


def _settled(seen: Observation) -> bool:
    """Whether the alias is known, where something hangs on it."""
    if not may_move_alias(seen) or isinstance(seen.target, Target):
        return True
    return seen.target.reason is not Reason.REGISTRY_UNAVAILABLE


def _reason(attempt: ModelRollout) -> Reason | None:
    return attempt.status.verdict.reason if attempt.status.verdict else None


def _tag(attempt: ModelRollout, verdict: Verdict) -> tuple[Intent, ...]:
    """Say on the version what came of it, unless that is no fault of its own."""
    if verdict.outcome is Outcome.INCONCLUSIVE and verdict.reason in UNMARKED:
        return ()
    word = "aborted" if verdict.reason is Reason.ABORTED else verdict.outcome.value.lower()
    tags = {"modelyard.rollout": word, "modelyard.rollout.name": attempt.metadata.name,
            "modelyard.rollout.arm": attempt.spec.arm,
            "modelyard.rollout.reason": verdict.reason.value, "modelyard.rollout.message": verdict.message}  # fmt: skip
    return (TagVersion(model=attempt.spec.serving.model.name, version=attempt.spec.version, tags=tags),)
