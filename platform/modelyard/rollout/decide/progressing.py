"""Progressing: steps are walked, one a look. A step is done when what it asks for was observed."""

from dataclasses import replace

from modelyard.rollout.decide import rolling_back, sides, steps
from modelyard.rollout.decide.judge import answered, begun, folded, interrupted, judged, kept, unavailable
from modelyard.rollout.decide.plan import SOON_S, Plan, the_attempt, weighed, with_status
from modelyard.rollout.decide.wished import is_lost
from modelyard.rollout.intents import Intent
from modelyard.rollout.observation import Observation
from modelyard.spec.deployment import AnalysisStep
from modelyard.spec.rollout import ModelRollout
from modelyard.verdict import Outcome, Verdict


def plan(seen: Observation) -> Plan:
    """Stop where something speaks for it; else keep the step's share, and go on when the step is done."""
    memory = begun(seen) if seen.memory.evidence is None else folded(seen)
    if isinstance(memory, Verdict):
        return rolling_back.begin(seen, memory)
    attempt = steps.timed(weighed(seen, answered(seen, memory, the_attempt(seen))), seen.now)
    seen = replace(seen, attempt=attempt, memory=memory)
    verdict = judged(seen, memory)
    stop = _stop(seen, verdict)
    if stop is not None:
        return rolling_back.begin(seen, stop)
    stable = seen.stable
    if stable is None:
        return Plan(attempt, memory, again=seen.now + SOON_S)  # whoever deleted stable's record decides: abort or undo
    seen = replace(seen, attempt=_held(attempt, verdict))
    acts, out = _acts(seen)
    memory = replace(memory, still=out.still)
    attempt = the_attempt(seen)
    waits = attempt.spec.paused or (is_lost(seen) and not attempt.spec.promote)
    if not waits and steps.is_done(seen, verdict):
        return Plan(steps.onward(attempt, verdict, now=seen.now), memory, acts=acts, again=seen.now)
    return Plan(attempt, memory, acts=acts, again=seen.now + SOON_S)  # in pauses too: the analysis never sleeps


def _stop(seen: Observation, verdict: Verdict | None) -> Verdict | None:
    """People first, then the evidence, then an arm that is lost. A pause stops progress, never protection."""
    failed = verdict if verdict is not None and verdict.outcome is Outcome.FAILED else None
    stop = interrupted(seen) or failed or unavailable(seen, since=steps.waiting_since(seen))
    if stop is not None:
        return stop
    rolls_back = the_attempt(seen).spec.serving.analysis.on_inconclusive == "Rollback"
    return verdict if rolls_back and _ends_the_wait(the_attempt(seen), verdict) else None


def _ends_the_wait(attempt: ModelRollout, verdict: Verdict | None) -> bool:
    """Whether an analysis step has waited for a verdict for as long as it may."""
    if verdict is None or verdict.outcome is not Outcome.INCONCLUSIVE:
        return False
    return isinstance(steps.current(attempt), AnalysisStep) and not attempt.spec.paused and not attempt.spec.promote


def _held(attempt: ModelRollout, verdict: Verdict | None) -> ModelRollout:
    """The attempt with the reason for which it is held (`onInconclusive: Pause`)."""
    if verdict is None or not _ends_the_wait(attempt, verdict):
        return attempt
    return with_status(attempt, replace(attempt.status, verdict=kept(attempt.status.verdict, verdict)))


def _acts(seen: Observation) -> tuple[tuple[Intent, ...], sides.Leaving]:
    out = sides.leaving(seen, sides.walking(seen))
    acts = (
        *sides.ensure_stable(seen, sides.everything(seen)),
        *sides.ensure_canary(seen, steps.replicas(seen)),
        *sides.ensure_baseline(seen, steps.replicas(seen)),
        *sides.route(seen, {**out.zeros, **steps.weights(seen, steps.share(seen))}),
        *out.retire,
    )
    return acts, out
