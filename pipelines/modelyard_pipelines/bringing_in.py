"""What the steps promote and rollout do: without torch, so that they start at once."""

import time
from pathlib import Path
from typing import NamedTuple

from modelyard.errors import BadInput, StageFailed
from modelyard.registry.port import Registry, Version
from modelyard.rollout.observation import arm_name
from modelyard.rollout.ports import Records
from modelyard.runs.rollout import superseded, wait_for_verdict
from modelyard.runs.stages import Stage
from modelyard_pipelines import wiring
from modelyard_pipelines.step import Artifact, Step

PROMOTED, WAITING = "Promoted", "Waiting"
POLL_S = 2.0
"""Between two questions to the registry or the cluster while a step waits."""

SPARE_S = 60.0
"""How much longer than its own deadlines a rollout is awaited."""


class Promoted(NamedTuple):
    """Whether the alias names the version now."""

    outcome: str


def promoted(at: Step, *, version: str, champion: str, wait_s: float, words: Artifact) -> Promoted:
    """Stage 8: move the alias, or wait for a person.

    Raises:
        AliasMoved: somebody moved it since the gate looked, so the comparison does not hold any more.
    """
    registry, name, alias = wiring.registry(), at.project.metadata.name, at.project.alias
    if at.project.promote == "automatic":
        if not _names(registry, name, alias, version):
            registry.move_alias(name, alias, version, expected=champion or None)
        there = True
    else:
        there = _awaited(at, registry, version, wait_s)
    told = f"{alias} names version {version}" if there else (
        f"version {version} waits for a person: `modelyard promote {name} {version}`, or move {alias} in MLflow"
    )  # fmt: skip
    at.tracked.log(tags={"modelyard.champion": version} if there else {})
    at.walk.note(Stage.PROMOTE, began=time.monotonic(), message=told)
    Path(words.path).write_text(f"# {name}\n\n{told}\n", "utf-8")
    return Promoted(outcome=PROMOTED if there else WAITING)


def _names(registry: Registry, name: str, alias: str, version: str) -> bool:
    now = registry.resolve(name, alias)
    return isinstance(now, Version) and now.version == version


def _awaited(at: Step, registry: Registry, version: str, wait_s: float) -> bool:
    name, alias = at.project.metadata.name, at.project.alias
    ends = time.monotonic() + wait_s
    if wait_s:
        at.walk.say(Stage.PROMOTE, f"waiting at most {wait_s:.0f} s until {alias} names version {version}")
    while not _names(registry, name, alias, version):
        if (left := ends - time.monotonic()) <= 0:
            return False
        time.sleep(min(POLL_S, left))  # a poll with a deadline: MLflow calls nobody inside a cluster
    return True


def rolled_out(at: Step, *, version: str, deployment: str, words: Artifact, records: Records | None = None) -> None:
    """Stages 9 and 10: await the operator's verdict on a version.

    Args:
        at: the step.
        version: what is brought in.
        deployment: `namespace/name` of its ModelDeployment.
        words: Markdown artifact for what came of it.
        records: where wishes and attempts are; the cluster's when absent.

    Raises:
        BadInput: there is no such ModelDeployment, or it follows another model.
        StageFailed: the rollout failed or could not tell; the message says why.
    """
    kept = records or wiring.records()
    wish = kept.deployment(deployment)
    if wish is None:
        raise BadInput(
            f"pipeline.deployment: there is no ModelDeployment {deployment}",
            do="apply it first: modelyard export --tracking-uri URL | kubectl apply -f -",
        )
    name = at.project.metadata.name
    if wish.spec.model.name != name:
        raise BadInput(f"{deployment} serves {wish.spec.model.name}, not {name}", do="correct pipeline.deployment")
    found = next((one for one in wiring.registry().versions(name) if one.version == version), None)
    if found is None:
        raise BadInput(f"{name} has no version {version}", do="see who deleted it, and run again")
    arm, began = arm_name(found.digest, wish.spec), time.monotonic()
    canary = wish.spec.strategy.canary
    attempt, verdict = wait_for_verdict(
        kept,
        deployment,
        version=version,
        arm=arm,
        earlier=superseded(kept, deployment, arm),
        settled=True,
        say=lambda told: at.walk.say(Stage.ROLLOUT, told),
        alive=lambda: True,
        deadline_s=canary.progress_deadline.seconds + wish.spec.analysis.max_duration.seconds + SPARE_S,
        every_s=POLL_S,
    )
    named = f"{attempt.metadata.name}: " if attempt else ""
    at.walk.note(Stage.ROLLOUT, began=began, message=f"{named}{verdict.message}", verdict=verdict)
    Path(words.path).write_text(f"# {verdict.outcome}\n\n{named}{verdict.message}\n", "utf-8")
    if not verdict.lets_through:
        raise StageFailed(f"{named}{verdict.outcome}: {verdict.message}", do=f"see kubectl describe mdep {deployment}")
