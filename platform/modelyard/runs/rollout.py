"""The last two stages, seen from a run: leave the wish, then wait for what the rollout loop makes of it."""

import time
from collections.abc import Callable
from dataclasses import replace

from modelyard.errors import Conflict, StageFailed
from modelyard.registry.port import Version
from modelyard.rollout.commands import refused
from modelyard.rollout.history import was_superseded
from modelyard.rollout.observation import REFUSED, arm_name, trouble_of
from modelyard.rollout.ports import Records
from modelyard.rollout.states import has_ended
from modelyard.spec.deployment import Condition, DeploymentSpec, ModelDeployment, ModelRef, Rollback
from modelyard.spec.metadata import Metadata
from modelyard.spec.project import ModelProject
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Outcome, Reason, Verdict


def deployment_spec(project: ModelProject) -> DeploymentSpec:
    """The wish that a project's file describes."""
    given = project.deployment
    return DeploymentSpec(
        model=ModelRef(name=project.metadata.name, alias=project.alias),
        runtime=given.runtime,
        pod_template=given.pod_template,
        replicas=given.replicas,
        autoscaling=given.autoscaling,
        strategy=given.strategy,
        analysis=given.analysis,
        traffic=given.traffic,
        rollback=Rollback(alias=given.rollback.alias, retain=given.rollback.retain),
    )


def deployment_key(project: ModelProject) -> str:
    """Key of the project's ModelDeployment in the records."""
    return f"default/{project.metadata.name}"


def wish(records: Records, project: ModelProject) -> str:
    """Write the project's ModelDeployment if it is not so already; gives its key."""
    spec = deployment_spec(project)
    key = deployment_key(project)
    for _ in range(20):
        there = records.deployment(key)
        if there is not None and there.spec == spec:
            return key
        new = ModelDeployment(metadata=Metadata(name=project.metadata.name), spec=spec)
        try:
            records.write(replace(there, spec=spec) if there else new)
        except Conflict:
            continue
        return key
    raise StageFailed(f"the record of {key} changes faster than it can be written", do="see who else writes it")


def attempt_for(records: Records, key: str, arm: str) -> ModelRollout | None:
    """The newest attempt to bring that arm in: one version, served in one way."""
    found = [each for each in records.rollouts(key) if each.spec.arm == arm]
    return found[-1] if found else None


def refused_by(records: Records, key: str, arm: str) -> str | None:
    """Name of the attempt since which the loop does not try this arm again by itself: it failed, or was undone."""
    deployment, attempt = records.deployment(key), attempt_for(records, key, arm)
    if deployment is None or attempt is None or not has_ended(attempt):
        return None
    return refused(deployment, records.rollouts(key)).get(arm)


def not_tried_again(records: Records, project: ModelProject, named: Version | Verdict) -> str | None:
    """As `refused_by`, for what the project's alias names."""
    if isinstance(named, Verdict):
        return None
    return refused_by(records, deployment_key(project), arm_name(named.digest, deployment_spec(project)))


def superseded(records: Records, key: str, arm: str) -> frozenset[str]:
    """Names of attempts that ended since another version was promoted: they say nothing about this arm."""
    mine = [each for each in records.rollouts(key) if each.spec.arm == arm]
    return frozenset(each.metadata.name for each in mine if has_ended(each) and was_superseded(each))


def wait_for_verdict(
    records: Records,
    key: str,
    *,
    version: str,
    arm: str,
    earlier: frozenset[str],
    settled: bool,
    say: Callable[[str], None],
    alive: Callable[[], bool],
    deadline_s: float,
    every_s: float = 0.1,
) -> tuple[ModelRollout | None, Verdict]:
    """Wait until the version's attempt has a verdict (or, with `settled`, has ended).

    Args:
        records: wishes and attempts.
        key: the deployment.
        version: for messages.
        arm: what is to be brought in.
        earlier: attempts that were superseded before, and are not meant.
        settled: wait for the end.
        say: told what happens.
        alive: whether the loop still runs.
        deadline_s: seconds until giving up.
        every_s: seconds between two looks: records are files, or a cluster's.

    Raises:
        StageFailed: the loop is gone, needs a person, or decided nothing within `deadline_s` seconds.
    """
    ends, told = time.monotonic() + deadline_s, ""
    while time.monotonic() < ends:
        attempt = attempt_for(records, key, arm)
        deployment = records.deployment(key)
        stable = deployment.status.stable if deployment else None
        gone = attempt is not None and attempt.status.phase == Phase.SUCCESSFUL and stable and stable.arm != arm
        if gone and (by := refused_by(records, key, arm)):
            message = f"version {version} was undone by {by}; `modelyard rollout retry` tries it again"
            return None, Verdict(outcome=Outcome.FAILED, reason=Reason.ABORTED, message=message)
        if attempt is not None and (gone or attempt.metadata.name in earlier):
            attempt = None  # an old one: it was stable once, or superseded
        if attempt is not None and (has_ended(attempt) or (attempt.status.verdict and not settled)):
            verdict = attempt.status.verdict or _of_phase(attempt)
            return attempt, verdict
        if attempt is None and stable and stable.arm == arm:
            message = f"version {version} is stable already"
            return None, Verdict(outcome=Outcome.SUCCESSFUL, reason=Reason.STEPS_DONE, message=message)
        trouble = trouble_of(deployment) if deployment else None
        if deployment and trouble and trouble.reason == REFUSED and _is_current(trouble, deployment):
            raise StageFailed(f"the rollout loop was refused: {trouble.message}", do="then run again")
        if (now := _told(attempt) + (f"; {trouble.message}" if trouble else "")) != told:
            say(now)
            told = now
        if not alive():
            raise StageFailed("the rollout loop ended", do="see its log, then `modelyard up` and run again")
        time.sleep(every_s)  # a poll with a deadline
    raise StageFailed(
        f"no verdict on version {version} within {deadline_s:.0f} s",
        do="see `modelyard rollout status`, then run again",
    )


def _is_current(condition: Condition, deployment: ModelDeployment) -> bool:
    """Whether it speaks of the wish as it is now."""
    return condition.observed_generation == deployment.metadata.generation


def _of_phase(attempt: ModelRollout) -> Verdict:
    good = attempt.status.phase == Phase.SUCCESSFUL
    return Verdict(
        outcome=Outcome.SUCCESSFUL if good else Outcome.FAILED,
        reason=Reason.STEPS_DONE if good else Reason.ANALYSIS_FAILED,
        message=f"{attempt.metadata.name} ended {attempt.status.phase}",
    )


def _told(attempt: ModelRollout | None) -> str:
    if attempt is None:
        return "waiting for the loop to see the alias"
    weights = attempt.status.weights.confirmed
    share = weights.get(attempt.spec.arm, 0)
    return f"{attempt.metadata.name}: {attempt.status.phase}, weight {share} %"
