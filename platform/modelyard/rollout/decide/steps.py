"""The steps of a canary: what share each asks for, and when it is done."""

from dataclasses import replace

from modelyard.rollout.capacity import needed, share_at, split
from modelyard.rollout.decide import sides
from modelyard.rollout.decide.plan import entered, noted, the_attempt, with_status
from modelyard.rollout.observation import Observation
from modelyard.spec.deployment import AnalysisStep, PauseStep, SetWeight
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Outcome, Verdict


def current(attempt: ModelRollout) -> SetWeight | PauseStep | AnalysisStep:
    """The step that is being walked."""
    return attempt.spec.steps[attempt.status.step]


def replicas(seen: Observation) -> int:
    """Replicas of the canary that this step needs."""
    attempt = the_attempt(seen)
    return max(1, needed(sides.everything(seen), share_at(attempt.spec.steps, attempt.status.step)))


def share(seen: Observation) -> int:
    """The canary's weight now: the step's, once enough replicas are ready; none while none is."""
    attempt = the_attempt(seen)
    ready = sides.ready(sides.canary(seen))
    if ready == 0:
        return 0
    steps, number = attempt.spec.steps, attempt.status.step
    asked, wanted = seen.weights.asked.get(attempt.spec.arm, 0), share_at(steps, number)
    if attempt.spec.paused and isinstance(steps[number], SetWeight):
        wanted = min(wanted, max(asked, share_at(steps, number - 1) if number else 0))
    return wanted if sides.both_ready(seen) >= replicas(seen) else min(wanted, asked)


def weights(seen: Observation, share: int) -> dict[str, int]:
    """Weights that give the canary this share; a baseline that cannot answer leaves its own to stable."""
    assert seen.stable is not None
    stable, beside = seen.stable.arm, sides.baseline(seen)
    wanted = split(stable, the_attempt(seen).spec.arm, share, beside)
    if beside and not sides.ready(seen.arms.get(beside)):
        wanted[stable] += wanted.pop(beside)
        wanted |= {beside: 0} if beside in seen.arms else {}
    return wanted


def waiting_since(seen: Observation) -> float | None:
    """Since when the progress deadline runs: while a weight is being reached, or while no replica is ready."""
    attempt = the_attempt(seen)
    if isinstance(current(attempt), SetWeight) and not attempt.spec.paused:
        return attempt.status.step_since
    return seen.memory.unready_since


def is_done(seen: Observation, verdict: Verdict | None) -> bool:
    """Whether the step's own end was observed; `promote` skips waits, never the confirmation of a weight."""
    attempt = the_attempt(seen)
    step, spec, status = current(attempt), attempt.spec, attempt.status
    if isinstance(step, SetWeight):
        wanted = weights(seen, step.set_weight)
        return share(seen) == step.set_weight and sides.believed(seen, wanted) and _beside(seen)
    if spec.promote:
        return True
    if isinstance(step, AnalysisStep):
        return verdict is not None and verdict.outcome is Outcome.SUCCESSFUL
    if step.pause.duration is None:
        return spec.resumed >= status.step
    return seen.now - status.step_since >= step.pause.duration.seconds


def _beside(seen: Observation) -> bool:
    """Whether the baseline, where there is one, can answer."""
    beside = sides.baseline(seen)
    return not beside or sides.ready(seen.arms.get(beside)) > 0


def timed(attempt: ModelRollout, now: float) -> ModelRollout:
    """The attempt with the clock of its step stopped while it is paused."""
    status = attempt.status
    if attempt.spec.paused and status.paused_since is None:
        return with_status(attempt, replace(status, paused_since=now))
    if not attempt.spec.paused and status.paused_since is not None:
        shifted = status.step_since + max(0.0, now - max(status.paused_since, status.step_since))
        return with_status(attempt, replace(status, paused_since=None, step_since=shifted))
    return attempt


def onward(attempt: ModelRollout, verdict: Verdict | None, *, now: float) -> ModelRollout:
    """The attempt at its next step, or promoting after the last."""
    step, status = current(attempt), attempt.status
    number = status.step + 1
    if isinstance(step, SetWeight):
        status = noted(status, f"Weight{step.set_weight}", f"{step.set_weight} % are confirmed", at=now)
    if isinstance(step, AnalysisStep) and verdict is not None and verdict.outcome is Outcome.SUCCESSFUL:
        status = replace(status, passed=verdict, verdict=None)
        status = noted(status, f"Analysis{number}", verdict.message, at=now)
    attempt = with_status(attempt, replace(status, step=number, step_since=now))
    if number < len(attempt.spec.steps):
        return attempt
    why = "promoted by hand: waits were skipped" if attempt.spec.promote else "all steps are done"
    return entered(attempt, Phase.PROMOTING, now=now, why=why)
