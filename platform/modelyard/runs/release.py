"""The second half of a run's way: a tried archive becomes a version, and the version is brought into traffic."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from modelyard.errors import ModelyardError
from modelyard.evaluation.report import EvaluationReport
from modelyard.packaging.packed import Package
from modelyard.registry.port import Candidate, Registry, Version
from modelyard.rollout.observation import arm_name
from modelyard.rollout.ports import Records
from modelyard.runs.champion import COMPARED_WITH, Champion
from modelyard.runs.judging import DIGEST_OF, EVIDENCE, GATES
from modelyard.runs.rollout import deployment_key, deployment_spec, refused_by, superseded, wait_for_verdict, wish
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Result, Walk
from modelyard.spec.project import ModelProject
from modelyard.spec.rollout import ModelRollout
from modelyard.storage.atomic import digest_file, write_text
from modelyard.training.job import Tracking
from modelyard.verdict import Verdict

T = TypeVar("T")


class Refused(Exception):
    """A gate or the live analysis said no, or could not tell."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


@dataclass(frozen=True, kw_only=True)
class Services:
    """What is asked for beside files. Called when first needed, since starting them takes seconds."""

    registry: Callable[[], Registry]
    records: Callable[[], Records | None]
    """None: what the alias names is rolled out elsewhere."""
    tracking: Callable[[], Tracking | None]
    alive: Callable[[], bool]
    own: bool = False
    """Whether the registry is the project's own, in which nothing but its runs registers."""


def let_through(verdict: Verdict, value: T) -> T:
    """The value, where a verdict lets it through.

    Raises:
        Refused: it does not.
    """
    if not verdict.lets_through:
        raise Refused(verdict)
    return value


@dataclass(frozen=True, kw_only=True)
class Release:
    """Stages 7 to 10 of one project."""

    walk: Walk
    project: ModelProject
    services: Services

    def register(
        self,
        packed: Result[Package],
        chosen: Path,
        report: Result[EvaluationReport],
        champion: Champion,
        run_id: str | None,
    ) -> Version:
        """Stage 7: one version for one digest, however often it is asked for; alias `candidate`."""
        walk, registry, name = self.walk, self.services.registry(), self.project.metadata.name
        began = walk.begin(Stage.REGISTER)
        kept = (Stage.PREPARE, Stage.EVALUATE, Stage.GATE, Stage.COMPRESS)
        compressed = walk.run.entry(Stage.COMPRESS)
        assert compressed is not None
        gated = walk.state / compressed.more["gates"]
        evidence = {GATES: gated / "result.json", EVIDENCE: gated / EVIDENCE}
        digests = {DIGEST_OF[name]: digest_file(path) for name, path in evidence.items()}
        version = registry.register(
            Candidate(
                model=name,
                archive=packed.value.archive,
                digest=packed.value.digest,
                folder=str(chosen),
                manifest=packed.value.manifest,
                artifacts={
                    f"{entry.stage}.json": str(walk.state / entry.folder / "result.json")
                    for entry in walk.run.stages
                    if entry.stage in kept
                }
                | {name: str(path) for name, path in evidence.items()}
                | pictures_of(self.walk),
                metrics={metric: value.value for metric, value in report.value.metrics.items()},
                tags={**self.lineage(chosen), **digests, COMPARED_WITH: champion.version or ""},
                run_id=run_id,
            )
        )
        before = registry.resolve(name, "candidate")
        registry.move_alias(
            name, "candidate", version.version, expected=before.version if isinstance(before, Version) else None
        )
        walk.keep(version=version.version, digest=version.digest)
        walk.note(Stage.REGISTER, began=began, message=f"version {version.version}, {version.digest[:19]}")
        return version

    def lineage(self, chosen: Path) -> Mapping[str, str]:
        """What a version came from, as tags."""
        run = self.walk.run
        gated = run.entry(Stage.COMPRESS)
        return {
            "modelyard.run": run.id,
            "modelyard.code": run.code_digest,
            "modelyard.recipe": run.project.train.recipe.use,
            "modelyard.variant": chosen.name,
            "modelyard.gate": gated.verdict.outcome if gated and gated.verdict else "",
            **{f"modelyard.{entry.stage}.key": entry.key for entry in run.stages if entry.key},
        }

    def promote(self, version: Version, champion: Champion) -> bool:
        """Stage 8: move the alias, where the file says so; else say how a person does it."""
        walk, registry = self.walk, self.services.registry()
        name, alias = self.project.metadata.name, self.project.alias
        began = walk.begin(Stage.PROMOTE)
        records = self.services.records()
        key = wish(records, self.project) if records else ""  # so that an alias moved by hand is followed too
        automatic = self.project.promote == "automatic"
        if automatic and records and (failed := refused_by(records, key, self.arm(version))):
            told = f"version {version.version} is not tried again since {failed}; `modelyard rollout retry` does it"
        elif automatic:
            now = registry.resolve(name, alias)
            if not isinstance(now, Version) or now.version != version.version:
                registry.move_alias(name, alias, version.version, expected=champion.version)
            told = f"{alias} names version {version.version}"
        else:
            told = f"by hand: `modelyard promote {name} {version.version}`, or the alias {alias} in MLflow"
        walk.note(Stage.PROMOTE, began=began, message=told)
        return automatic

    def arm(self, version: Version) -> str:
        """What serves a version, the way that this project wishes."""
        return arm_name(version.digest, deployment_spec(self.project))

    def roll_out(self, version: Version) -> None:
        """Stages 9 and 10 are the rollout loop's: await its verdict, then the end."""
        walk, project, records = self.walk, self.project, self.services.records()
        assert records is not None
        key = deployment_key(project)
        deployment = project.deployment
        deadline_s = deployment.strategy.canary.progress_deadline.seconds + deployment.analysis.max_duration.seconds
        earlier = superseded(records, key, self.arm(version))
        for stage in (Stage.ROLLOUT, Stage.SETTLE):
            began = walk.begin(stage)
            attempt, verdict = wait_for_verdict(
                records,
                key,
                version=version.version,
                arm=self.arm(version),
                earlier=earlier,
                settled=stage is Stage.SETTLE,
                say=lambda told, stage=stage: walk.say(stage, told),  # type: ignore[misc]
                alive=self.services.alive,
                deadline_s=deadline_s + 60,
            )
            if attempt:
                walk.keep(rollout=attempt.metadata.name)
            told = verdict.message if stage is Stage.ROLLOUT else f"ended as {verdict.outcome}"
            if attempt and stage is Stage.SETTLE:
                self.keep_pictures(version, attempt)
            walk.note(stage, began=began, message=told, verdict=verdict)
        let_through(verdict, None)

    def keep_pictures(self, version: Version, attempt: ModelRollout) -> None:
        """Put the canary's plot beside the version's other pictures. The rollout has ended, with it or without."""
        from modelyard.reports.pictures import canary_pictures  # noqa: PLC0415 - imports matplotlib

        with suppress(ModelyardError):
            if made := _written(self.walk, canary_pictures(attempt)):
                self.services.registry().keep(version, made)


def pictures_of(walk: Walk) -> dict[str, str]:
    """Verdicts and plots of a run as files, for those who look at its version in MLflow: name → path."""
    from modelyard.reports.pictures import pictures  # noqa: PLC0415 - imports matplotlib
    from modelyard.runs.report import view_of  # noqa: PLC0415

    return _written(walk, pictures(view_of(walk.state, walk.run)))


def _written(walk: Walk, made: Mapping[str, str]) -> dict[str, str]:
    folder = walk.state / "runs" / walk.run.id
    for name, text in made.items():
        write_text(folder / name, text)
    return {name: str(folder / name) for name in made}
