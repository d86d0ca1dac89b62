"""Promoting: all traffic goes to the new arm. The old one keeps all its replicas until that is confirmed."""

from dataclasses import replace

from modelyard.rollout.capacity import needed, share_at, split
from modelyard.rollout.decide import rolling_back, sides
from modelyard.rollout.decide.judge import answered, folded, interrupted, judged, unavailable
from modelyard.rollout.decide.plan import READY_S, Plan, entered, noted, the_attempt, weighed, with_status
from modelyard.rollout.decide.wished import may_move_alias
from modelyard.rollout.intents import Intent, MoveAlias, TagVersion
from modelyard.rollout.observation import Observation, Target, arm_name
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Outcome, Reason, Verdict


def plan(seen: Observation) -> Plan:
    """Give the new arm everything, believe it when the router confirms it, and only then call it stable."""
    memory = folded(seen)
    attempt = weighed(seen, answered(seen, memory, the_attempt(seen)))
    seen = replace(seen, attempt=attempt, memory=memory)
    stop = _stop(seen)
    if stop is not None:
        return rolling_back.begin(seen, stop)
    spec, stable = attempt.spec, seen.stable
    everything = sides.everything(seen)
    keep = {spec.arm} if stable is None else {spec.arm, stable.arm}
    out = sides.leaving(seen, frozenset(keep))
    wanted = _weights(seen, everything)
    memory = replace(memory, still=out.still)
    acts = (*sides.ensure_stable(seen, everything), *sides.ensure_canary(seen, everything), *out.retire)
    if wanted is not None:
        acts += sides.route(seen, {**out.zeros, **wanted})
    if wanted is None or wanted.get(spec.arm) != 100 or not sides.believed(seen, wanted):
        late = unavailable(seen, since=attempt.status.step_since)
        if late is not None:
            return rolling_back.begin(seen, late)
        return Plan(attempt, memory, acts=acts, again=seen.now + READY_S)
    verdict = _verdict(attempt, first=stable is None)
    status = noted(attempt.status, "Weight100", "all traffic is confirmed", at=seen.now)
    ended = entered(
        with_status(attempt, replace(status, verdict=verdict)), Phase.SUCCESSFUL, now=seen.now, why=verdict.message
    )
    return Plan(ended, memory, first=(*_alias(seen), _tag(seen, verdict)), acts=acts, again=seen.now)


def _stop(seen: Observation) -> Verdict | None:
    """Abort works to the very end; a newer wish waits for it: it starts from the new stable."""
    verdict, stop = judged(seen, seen.memory), interrupted(seen)
    if verdict is not None and verdict.outcome is Outcome.FAILED:
        return verdict
    return stop if stop is not None and stop.reason is Reason.ABORTED else None


def _weights(seen: Observation, everything: int) -> dict[str, int] | None:
    """100 % once enough replicas are ready; until then the share that those ready carry. None: as it is."""
    spec, arm = the_attempt(seen).spec, sides.canary(seen)
    asked = seen.weights.asked.get(spec.arm, 0)
    if seen.stable is None:
        return {spec.arm: 100} if sides.ready(arm) >= everything or (asked and sides.ready(arm)) else None
    if sides.ready(arm) >= everything:
        return split(seen.stable.arm, spec.arm, 100)
    last = share_at(spec.steps, len(spec.steps))
    carried = last if sides.ready(arm) >= needed(everything, last) else asked
    return split(seen.stable.arm, spec.arm, max(asked, carried) if sides.ready(arm) else 0)


def _verdict(attempt: ModelRollout, *, first: bool) -> Verdict:
    spec, last = attempt.spec, attempt.status.passed
    if first:
        reason, why = Reason.FIRST_VERSION, "there was no stable before it"
    elif spec.promote:
        reason, why = Reason.PROMOTED, "waits were skipped by hand"
    elif last is not None:
        reason, why = last.reason, last.message
    else:
        reason, why = Reason.STEPS_DONE, "all steps are done"
    return Verdict(outcome=Outcome.SUCCESSFUL, reason=reason, message=f"version {spec.version} is stable: {why}")


def _tag(seen: Observation, verdict: Verdict) -> TagVersion:
    """What the registry keeps: what the version came to, and since when it was champion.

    Each attempt has a tag of its own, so that a version that comes back has two: nothing is overwritten.
    """
    attempt = the_attempt(seen)
    reign = f"modelyard.champion.{attempt.metadata.namespace}.{attempt.metadata.name}"
    known = seen.target.tags if isinstance(seen.target, Target) and seen.target.version == attempt.spec.version else {}
    moments = {} if reign in known else {reign: seen.now}
    tags = {"modelyard.rollout": "stable", "modelyard.rollout.name": attempt.metadata.name,
            "modelyard.rollout.reason": verdict.reason.value, "modelyard.rollout.message": verdict.message}  # fmt: skip
    return TagVersion(model=attempt.spec.serving.model.name, version=attempt.spec.version, tags=tags, moments=moments)


def _alias(seen: Observation) -> tuple[Intent, ...]:
    """After retry or undo the alias names another version: it follows, where it may and nobody moved it since."""
    model, spec = seen.wish.spec.model, the_attempt(seen).spec
    if not may_move_alias(seen) or model.alias is None or not isinstance(seen.target, Target):
        return ()
    if seen.target.version == spec.version or arm_name(seen.target.digest, seen.wish.spec) != spec.wished:
        return ()
    return (MoveAlias(model=model.name, alias=model.alias, version=spec.version, expected=seen.target.version),)
