"""The last two stages, seen from a run: leave the wish, then wait for what the rollout loop makes of it."""

import time
from collections.abc import Callable
from dataclasses import replace

from modelyard.errors import Conflict, StageFailed
from modelyard.rollout.ports import Records
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment, ModelRef, Rollback
from modelyard.spec.metadata import Metadata
from modelyard.spec.project import ModelProject
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Outcome, Reason, Verdict

ENDED = (Phase.SUCCESSFUL, Phase.FAILED)


def deployment_spec(project: ModelProject) -> DeploymentSpec:
    """The wish that a project's file describes."""
    given = project.deployment
    return DeploymentSpec(
        model=ModelRef(name=project.metadata.name, alias=project.alias),
        runtime=given.runtime,
        replicas=given.replicas,
        strategy=given.strategy,
        analysis=given.analysis,
        traffic=given.traffic,
        rollback=Rollback(alias=given.rollback.alias, retain=given.rollback.retain),
    )


def wish(records: Records, project: ModelProject) -> str:
    """Write the project's ModelDeployment if it is not so already; gives its key."""
    spec = deployment_spec(project)
    key = f"default/{project.metadata.name}"
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


def attempt_for(records: Records, key: str, version: str, digest: str) -> ModelRollout | None:
    """The newest attempt to bring that version in."""
    found = [r for r in records.rollouts(key) if r.spec.version == version and r.spec.digest == digest]
    return found[-1] if found else None


def wait_for_verdict(
    records: Records,
    key: str,
    *,
    version: str,
    digest: str,
    settled: bool,
    say: Callable[[str], None],
    alive: Callable[[], bool],
    deadline_s: float,
) -> tuple[ModelRollout | None, Verdict]:
    """Wait until the version's attempt has a verdict (or, with `settled`, has ended).

    Raises:
        StageFailed: the loop is gone, or nothing was decided within `deadline_s` seconds.
    """
    ends, told = time.monotonic() + deadline_s, ""
    while time.monotonic() < ends:
        attempt = attempt_for(records, key, version, digest)
        if attempt is not None and (attempt.status.phase in ENDED or (attempt.status.verdict and not settled)):
            verdict = attempt.status.verdict or _of_phase(attempt)
            return attempt, verdict
        deployment = records.deployment(key)
        stable = deployment.status.stable if deployment else None
        if attempt is None and stable and (stable.version, stable.digest) == (version, digest):
            message = f"version {version} is stable already"
            return None, Verdict(outcome=Outcome.SUCCESSFUL, reason=Reason.STEPS_DONE, message=message)
        if (now := _told(attempt)) != told:
            say(now)
            told = now
        if not alive():
            raise StageFailed("the rollout loop ended", do="see its log, then `modelyard up` and run again")
        time.sleep(0.1)  # a poll with a deadline: records are files
    raise StageFailed(
        f"no verdict on version {version} within {deadline_s:.0f} s",
        do="see `modelyard rollout status`, then run again",
    )


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
