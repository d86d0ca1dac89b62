"""What speaks for stopping an attempt: people, a newer wish, the evidence, an arm that is lost."""

from dataclasses import replace

from modelyard.errors import BadInput
from modelyard.rollout import analysis
from modelyard.rollout.capacity import margins_at
from modelyard.rollout.decide import sides
from modelyard.rollout.decide.plan import SKEW_S, noted, the_attempt, with_status
from modelyard.rollout.decide.wished import superseded_by
from modelyard.rollout.observation import Memory, Observation, arm_name
from modelyard.rollout.pairs import Both
from modelyard.spec.rollout import ModelRollout
from modelyard.verdict import Outcome, Reason, Verdict


def begun(seen: Observation) -> Memory | Verdict:
    """Memory with fresh evidence: nothing of an earlier attempt enters it. Or why this cannot be analysed."""
    attempt = the_attempt(seen)
    try:
        evidence = analysis.begin(attempt.spec.serving.analysis, now=seen.now, steps=attempt.spec.steps)
    except BadInput as error:
        return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.NO_EVIDENCE, message=str(error))
    refused = next((f"{name}: {told.why}" for name, told in sorted(seen.told.items()) if told.refused), None)
    if refused is not None:
        return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.NO_EVIDENCE, message=refused)
    kept = Memory(rollout=attempt.metadata.name, still=seen.memory.still, read=seen.memory.read)
    return folded(replace(seen, memory=replace(kept, evidence=evidence, checkpoint=seen.memory.checkpoint)))


def folded(seen: Observation) -> Memory:
    """Memory with what both arms did since the last look; what is missing changes nothing."""
    attempt, memory = the_attempt(seen), seen.memory
    counts = seen.counts.get(attempt.spec.arm)
    if memory.requests is None and counts is not None:
        memory = replace(memory, requests=counts.requests - counts.errors)
    stable = seen.counts.get(sides.compared(seen))
    unready = sides.ready(sides.canary(seen)) == 0
    unseen = bool(seen.weights.asked.get(attempt.spec.arm)) and None in (counts, stable)
    memory = replace(
        memory,
        unready_since=_since(memory.unready_since, seen.now) if unready else None,
        unseen_since=_since(memory.unseen_since, seen.now) if unseen else None,
    )
    if memory.evidence is None:
        return memory
    margins = margins_at(attempt.spec.steps, attempt.status.step)
    spec = attempt.spec.serving.analysis
    evidence = analysis.look(
        memory.evidence, spec, now=seen.now, stable=stable, canary=counts, margins=margins, told=_both(seen)
    )
    return replace(memory, evidence=evidence)


def _both(seen: Observation) -> Both | None:
    if seen.stable is None or not seen.told:
        return None
    return Both(stable=sides.compared(seen), canary=the_attempt(seen).spec.arm, metrics=seen.told)


def _since(before: float | None, now: float) -> float:
    """When it began; from now on where that is not known, or lies ahead."""
    return now if before is None or before > now + SKEW_S else before


def judged(seen: Observation, memory: Memory) -> Verdict | None:
    """The analysis' verdict at this step's margins; None: go on."""
    attempt = the_attempt(seen)
    if memory.evidence is None:
        return None
    margins = margins_at(attempt.spec.steps, attempt.status.step)
    since = attempt.status.step_since
    return analysis.verdict(memory.evidence, attempt.spec.serving.analysis, now=seen.now, margins=margins, since=since)


def answered(seen: Observation, memory: Memory, attempt: ModelRollout) -> ModelRollout:
    """The attempt, with the canary's first answer to a client on its timeline."""
    counts = seen.counts.get(attempt.spec.arm)
    if counts is None or not seen.weights.asked.get(attempt.spec.arm):
        return attempt
    if counts.requests - counts.errors <= (memory.requests or 0):
        return attempt
    message = f"version {attempt.spec.version} answered a client"
    return with_status(attempt, noted(attempt.status, "FirstCanaryResponse", message, at=seen.now))


def interrupted(seen: Observation) -> Verdict | None:
    """Somebody aborts, or the wish names something else by now."""
    attempt = the_attempt(seen)
    if attempt.spec.abort:
        message = f"{attempt.metadata.name} was aborted in {attempt.status.phase}"
        return Verdict(outcome=Outcome.FAILED, reason=Reason.ABORTED, message=message)
    target = superseded_by(seen)
    if target is None:
        return None
    stable = seen.stable
    back = stable is not None and arm_name(target.digest, seen.wish.spec) == stable.arm
    named = f"version {target.version}, which is stable," if back else f"version {target.version}"
    message = f"the wish names {named} instead of {attempt.spec.version}"
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.SUPERSEDED, message=message)


def unavailable(seen: Observation, *, since: float | None) -> Verdict | None:
    """The canary's arm cannot become ready: known at once where the fault is its own, else at the deadline."""
    attempt = the_attempt(seen)
    arm = seen.arms.get(attempt.spec.arm)
    failure = None if arm is None else arm.failure
    if failure is not None and failure.outcome is Outcome.FAILED:
        return failure
    deadline = attempt.spec.serving.strategy.canary.progress_deadline
    if since is None or seen.now - since < deadline.seconds:
        return None
    if failure is not None:
        return replace(failure, message=f"{failure.message} (progressDeadline {deadline} is over)")
    beside = sides.baseline(seen)
    if beside and sides.ready(arm) > sides.both_ready(seen):
        arm, name = seen.arms.get(beside), f"{beside}, the fresh copy of stable,"
    else:
        name = attempt.spec.arm
    message = f"{sides.ready(arm)} replicas of arm {name} were ready when progressDeadline {deadline} was over"
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.PROGRESS_DEADLINE, message=message)


def kept(before: Verdict | None, verdict: Verdict) -> Verdict:
    """The verdict on record where only the words differ: a message that counts seconds is no news."""
    if before is not None and (before.outcome, before.reason) == (verdict.outcome, verdict.reason):
        return before
    return verdict
