"""What earlier attempts mean: which arm is stable, which are not tried again, which records nothing needs any more."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelyard.rollout.observation import Stable, Target, arm_name
from modelyard.rollout.states import has_ended
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Reason, Verdict


class Past(NamedTuple):
    """The attempts of one wish, read."""

    attempt: ModelRollout | None
    """The oldest that has not ended; where all have, the newest."""
    number: int
    """The highest number in a name."""
    stable: Stable | None
    failed: Mapping[str, str]
    """Arms not to be tried again until asked: arm → name of the attempt that ended so."""
    forgettable: tuple[ModelRollout, ...]


def number_of(rollout: ModelRollout) -> int:
    """The number in an attempt's name: 7 for `digits-00007`; 0 where somebody chose another name."""
    tail = rollout.metadata.name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def past(rollouts: Sequence[ModelRollout], wish: ModelDeployment, target: Target | Verdict) -> Past:
    """Read the attempts, oldest first.

    An arm is not tried again when its own newest attempt came to a bad end, or when a later one (retry, undo)
    was asked for while the wish named it: people decided against it.
    """
    running = next((each for each in rollouts if not has_ended(each)), None)
    stable: Stable | None = None
    failed: dict[str, str] = {}
    for each in rollouts:
        spec, name = each.spec, each.metadata.name
        if each.status.phase is Phase.SUCCESSFUL:
            stable = Stable(version=spec.version, digest=spec.digest, arm=spec.arm, serving=spec.serving, rollout=name)
            failed.pop(spec.arm, None)
            if spec.wished not in ("", spec.arm):
                failed[spec.wished] = name
        elif each.status.phase is Phase.FAILED and not was_superseded(each):
            failed[spec.arm] = name
    stable = stable or _mirrored(wish)
    failed = {**_marked(target, stable), **failed}
    return Past(
        attempt=running or (rollouts[-1] if rollouts else None),
        number=max(map(number_of, rollouts), default=0),
        stable=stable,
        failed=failed,
        forgettable=_forgettable(rollouts, wish, stable, failed, target),
    )


def _mirrored(wish: ModelDeployment) -> Stable | None:
    """Stable by the wish's own status, where somebody deleted the record of the attempt that brought it in."""
    said = wish.status.stable
    if said is None:
        return None
    return Stable(version=said.version, digest=said.digest, arm=said.arm, serving=wish.spec, rollout="")


def _marked(target: Target | Verdict, stable: Stable | None) -> dict[str, str]:
    """The target's own mark, which outlives the record of its attempt."""
    if not isinstance(target, Target) or target.tags.get("modelyard.rollout") != "failed":
        return {}
    arm = target.tags.get("modelyard.rollout.arm", "")
    return (
        {}
        if stable is not None and stable.arm == arm
        else {arm: target.tags.get("modelyard.rollout.name", "an attempt")}
    )


def was_superseded(rollout: ModelRollout) -> bool:
    """Whether it gives way, or gave way, to another version: its verdict says nothing about its own."""
    verdict = rollout.status.verdict
    return verdict is not None and verdict.reason is Reason.SUPERSEDED


def _forgettable(
    rollouts: Sequence[ModelRollout],
    wish: ModelDeployment,
    stable: Stable | None,
    failed: Mapping[str, str],
    target: Target | Verdict,
) -> tuple[ModelRollout, ...]:
    """Ended attempts but for the newest `retain` good and `retain` bad ones, stable's own, and the target's mark."""
    retain = max(1, wish.spec.rollback.retain)
    good = [each for each in rollouts if each.status.phase is Phase.SUCCESSFUL][-retain - 1 :]
    bad = [each for each in rollouts if each.status.phase is Phase.FAILED][-retain:]
    kept = {each.metadata.name for each in (*good, *bad)}
    kept |= {stable.rollout} if stable else set()
    if isinstance(target, Target):
        kept |= {failed.get(arm_name(target.digest, wish.spec), "")}
    return tuple(each for each in rollouts[:-1] if has_ended(each) and each.metadata.name not in kept)
