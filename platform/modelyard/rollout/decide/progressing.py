"""Progressing: steps are walked, one a look. A step is done when what it asks for was observed."""

from dataclasses import replace

from modelyard.rollout.capacity import needed, share_at, split, total
from modelyard.rollout.decide import rolling_back
from modelyard.rollout.decide.judge import answered, folded, interrupted, judged, kept, unavailable
from modelyard.rollout.decide.plan import (
    SOON_S, Plan, believed, canary, ensure_canary, ensure_stable, entered, leaving, nonzero, noted, ready, route, the_attempt,
    weighed, with_status,
)  # fmt: skip
from modelyard.rollout.decide.wished import is_lost
from modelyard.rollout.observation import Observation
from modelyard.spec.deployment import AnalysisStep, PauseStep, SetWeight
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Outcome, Verdict


def plan(seen: Observation) -> Plan:
    """Stop where something speaks for it; else keep the share that the step asks for, and go on when the step is done."""
    attempt = the_attempt(seen)
    if seen.stable is None:
        return Plan(entered(attempt, Phase.PROMOTING, now=seen.now, why="there is no stable any more"), seen.memory, again=seen.now)
    memory = folded(seen)
    attempt = weighed(seen, answered(seen, memory, attempt))
    seen = replace(seen, attempt=attempt, memory=memory)
    verdict = judged(seen, memory)
    failed = verdict if verdict is not None and verdict.outcome is Outcome.FAILED else None
    stop = interrupted(seen) or failed or unavailable(seen, since=_waiting_since(seen))
    if stop is not None:
        return rolling_back.begin(seen, stop)
    if _is_inconclusive(verdict) and not _waits_for_people(attempt) and isinstance(_step(attempt), AnalysisStep):
        assert verdict is not None
        if attempt.spec.serving.analysis.on_inconclusive == "Rollback":
            return rolling_back.begin(seen, verdict)
        attempt = with_status(attempt, replace(attempt.status, verdict=kept(attempt.status.verdict, verdict)))
    wanted, replicas = _share(seen), _replicas(seen)
    out = leaving(seen, frozenset({seen.stable.arm, attempt.spec.arm}))
    acts = (
        *ensure_stable(seen, _everything(seen)),
        *ensure_canary(seen, replicas),
        *route(seen, {**out.zeros, **split(seen.stable.arm, attempt.spec.arm, wanted)}),
        *out.retire,
    )
    attempt = _timed(attempt, seen.now)
    held = attempt.spec.paused or is_lost(seen) and not attempt.spec.promote
    if not held and _is_done(seen, attempt, verdict):
        attempt = _onward(attempt, verdict, now=seen.now)
        return Plan(attempt, replace(memory, still=out.still), acts=acts, again=seen.now)
    return Plan(attempt, replace(memory, still=out.still), acts=acts, again=_again(seen, attempt))


def _step(attempt: ModelRollout) -> SetWeight | PauseStep | AnalysisStep:
    return attempt.spec.steps[attempt.status.step]


def _everything(seen: Observation) -> int:
    return total(seen.wish.spec.replicas, the_attempt(seen).spec.serving.replicas)


def _replicas(seen: Observation) -> int:
    """Replicas of the canary that this step needs."""
    attempt = the_attempt(seen)
    return max(1, needed(_everything(seen), share_at(attempt.spec.steps, attempt.status.step)))


def _share(seen: Observation) -> int:
    """The canary's weight now: the step's, once enough replicas are ready; none while none is."""
    attempt = the_attempt(seen)
    arm, steps, step = canary(seen), attempt.spec.steps, attempt.status.step
    asked = seen.weights.asked.get(attempt.spec.arm, 0)
    wanted = share_at(steps, step)
    if ready(arm) == 0:
        return 0
    if attempt.spec.paused and isinstance(steps[step], SetWeight):
        wanted = min(wanted, max(asked, share_at(steps, step - 1) if step else 0))
    return wanted if ready(arm) >= _replicas(seen) else min(wanted, asked)


def _waiting_since(seen: Observation) -> float | None:
    """Since when the progress deadline runs: while a weight is being reached, or while no replica is ready."""
    attempt = the_attempt(seen)
    if isinstance(_step(attempt), SetWeight) and not attempt.spec.paused:
        return attempt.status.step_since
    return seen.memory.unready_since


def _waits_for_people(attempt: ModelRollout) -> bool:
    return attempt.spec.paused or attempt.spec.promote


def _is_inconclusive(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.outcome is Outcome.INCONCLUSIVE


def _is_done(seen: Observation, attempt: ModelRollout, verdict: Verdict | None) -> bool:
    """Whether the step's own end was observed; `promote` skips waits, never the confirmation of a weight."""
    assert seen.stable is not None
    step, spec, status = _step(attempt), attempt.spec, attempt.status
    if isinstance(step, SetWeight):
        wanted = split(seen.stable.arm, spec.arm, step.set_weight)
        return ready(canary(seen)) > 0 and _share(seen) == step.set_weight and believed(seen, nonzero(wanted))
    if spec.promote:
        return True
    if isinstance(step, AnalysisStep):
        return verdict is not None and verdict.outcome is Outcome.SUCCESSFUL
    if step.pause.duration is None:
        return spec.resumed >= status.step
    return seen.now - status.step_since >= step.pause.duration.seconds


def _timed(attempt: ModelRollout, now: float) -> ModelRollout:
    """The attempt with the clock of its step stopped while it is paused."""
    status = attempt.status
    if attempt.spec.paused and status.paused_since is None:
        return with_status(attempt, replace(status, paused_since=now))
    if not attempt.spec.paused and status.paused_since is not None:
        shifted = status.step_since + max(0.0, now - max(status.paused_since, status.step_since))
        return with_status(attempt, replace(status, paused_since=None, step_since=shifted))
    return attempt


def _onward(attempt: ModelRollout, verdict: Verdict | None, *, now: float) -> ModelRollout:
    """The attempt at its next step, or promoting after the last."""
    step, status = _step(attempt), attempt.status
    number = status.step + 1
    if isinstance(step, SetWeight):
        status = noted(status, f"Weight{step.set_weight}", f"{step.set_weight} % are confirmed", at=now)
    if isinstance(step, AnalysisStep) and verdict is not None and verdict.outcome is Outcome.SUCCESSFUL:
        status = replace(status, passed=verdict, verdict=None)
        status = noted(status, f"Analysis{number}", verdict.message, at=now)
    if number < len(attempt.spec.steps):
        return with_status(attempt, replace(status, step=number, step_since=now))
    why = "all steps are done" if not attempt.spec.promote else "promoted by hand: waits were skipped"
    return entered(with_status(attempt, replace(status, step=number)), Phase.PROMOTING, now=now, why=why)


def _again(seen: Observation, attempt: ModelRollout) -> float:
    """Counters are looked at twice a second, in pauses too: the analysis never sleeps."""
    return seen.now + SOON_S
