"""What people do to a rollout: switches of an attempt, and new attempts. Pure: the caller writes what these give."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelyard.errors import BadInput
from modelyard.rollout.decide.steady import attempt_for
from modelyard.rollout.history import past
from modelyard.rollout.observation import Stable, Target, arm_name
from modelyard.rollout.states import has_ended
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Outcome, Reason, Verdict

_UNKNOWN = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.ALIAS_MISSING, message="")
"""A target that nothing here asks for: records tell enough."""


def promote(rollout: ModelRollout) -> ModelRollout:
    """Skip the waits (pauses and verdicts) of an attempt; weights are still confirmed one by one.

    Raises:
        BadInput: the attempt has ended.
    """
    return replace(_running(rollout, "promote"), spec=replace(rollout.spec, promote=True, paused=False))


def pause(rollout: ModelRollout) -> ModelRollout:
    """Stay at the present step. The analysis goes on, and still rolls back what fails.

    Raises:
        BadInput: the attempt has ended.
    """
    return replace(_running(rollout, "pause"), spec=replace(rollout.spec, paused=True))


def resume(rollout: ModelRollout) -> ModelRollout:
    """Go on, also from a pause step without a duration.

    Raises:
        BadInput: the attempt has ended.
    """
    resumed = max(rollout.spec.resumed, rollout.status.step if rollout.status.phase is Phase.PROGRESSING else -1)
    return replace(_running(rollout, "resume"), spec=replace(rollout.spec, paused=False, resumed=resumed))


def abort(rollout: ModelRollout) -> ModelRollout:
    """Roll back now. Works until the attempt has ended.

    Raises:
        BadInput: the attempt has ended.
    """
    return replace(_running(rollout, "abort"), spec=replace(rollout.spec, abort=True))


def retry(wish: ModelDeployment, rollouts: Sequence[ModelRollout]) -> ModelRollout:
    """A new attempt, served as the wish says now, for what nobody would try again by itself.

    That is what the wish names, where it failed or was undone; else the version whose last attempt came to a bad end.

    Raises:
        BadInput: an attempt is under way, or there is none to try again.
    """
    stable = _at_rest(wish, rollouts)
    named = wish.status.alias
    if named and named["arm"] in refused(wish, rollouts):
        target = Target(version=str(named["version"]), digest=str(named["digest"]))
        return _next(wish, rollouts, target, arm=str(named["arm"]), stable=stable)
    bad = [each for each in rollouts if each.status.phase is Phase.FAILED]
    if not bad:
        raise BadInput(f"no rollout of {wish.metadata.name} has failed", do="promote a version instead")
    spec = bad[-1].spec
    arm = arm_name(spec.digest, wish.spec)
    if stable is not None and stable.arm == arm:
        raise BadInput(f"version {spec.version} is stable already", do="look at `modelyard rollout status`")
    return _next(wish, rollouts, Target(version=spec.version, digest=spec.digest), arm=arm, stable=stable)


def refused(wish: ModelDeployment, rollouts: Sequence[ModelRollout]) -> Mapping[str, str]:
    """Arms that the loop does not try again by itself → the attempt since which: they failed, or people undid them."""
    return past(rollouts, wish, _UNKNOWN).failed


def undo(wish: ModelDeployment, rollouts: Sequence[ModelRollout]) -> ModelRollout:
    """A new attempt for what was stable before: the same bytes, served as they were, without canary steps.

    Raises:
        BadInput: an attempt is under way, or there was no other stable.
    """
    stable = _at_rest(wish, rollouts)
    good = [
        each for each in rollouts if each.status.phase is Phase.SUCCESSFUL and stable and each.spec.arm != stable.arm
    ]
    if stable is None or not good:
        raise BadInput(f"{wish.metadata.name} had no other stable version before", do="promote a version instead")
    spec = good[-1].spec
    made = _next(wish, rollouts, Target(version=spec.version, digest=spec.digest), arm=spec.arm, stable=stable)
    return replace(made, spec=replace(made.spec, steps=(), serving=replace(wish.spec, runtime=spec.serving.runtime)))


def _running(rollout: ModelRollout, what: str) -> ModelRollout:
    if has_ended(rollout):
        way = "undo it" if rollout.status.phase is Phase.SUCCESSFUL else "retry it"
        raise BadInput(f"{rollout.metadata.name} is {rollout.status.phase}: there is nothing to {what}", do=way)
    return rollout


def _at_rest(wish: ModelDeployment, rollouts: Sequence[ModelRollout]) -> Stable | None:
    """Stable, where no attempt is under way."""
    history = past(rollouts, wish, _UNKNOWN)
    if history.attempt is not None and not has_ended(history.attempt):
        name = history.attempt.metadata.name
        raise BadInput(f"{name} is under way ({history.attempt.status.phase})", do="abort it or wait for its end")
    return history.stable


def _next(
    wish: ModelDeployment, rollouts: Sequence[ModelRollout], target: Target, *, arm: str, stable: Stable | None
) -> ModelRollout:
    number = past(rollouts, wish, target).number + 1
    previous = {} if stable is None else {"version": stable.version, "digest": stable.digest, "arm": stable.arm}
    return attempt_for(
        wish.metadata,
        wish.spec,
        number=number,
        version=target.version,
        digest=target.digest,
        arm=arm,
        wished=str(wish.status.alias.get("arm", arm)),
        previous=previous,
        asked=True,
    )
