"""What the steps from the archive to live traffic do."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from modelyard.compression.report import CompressionReport
from modelyard.data.prepared import PreparedData
from modelyard.errors import StageFailed
from modelyard.evaluation.gate import GateReport
from modelyard.evaluation.report import EvaluationReport
from modelyard.packaging.packed import Package
from modelyard.runs.champion import Champion
from modelyard.runs.release import Refused, Release
from modelyard.runs.walk import Result
from modelyard.training.job import TrainedModel
from modelyard_pipelines import wiring
from modelyard_pipelines.looking import INPUTS
from modelyard_pipelines.sections import inputs_digest
from modelyard_pipelines.step import Artifact, Step


class Registered(NamedTuple):
    """The version that a run made."""

    version: str
    digest: str


@dataclass(frozen=True)
class Made:
    """All that the steps before made."""

    prepared: Artifact
    trained: Artifact
    evaluated: Artifact
    gated: Artifact
    variants: Artifact
    served: Artifact
    judged: Artifact
    archive: Artifact


def packaged(at: Step, data: Result[PreparedData], variants: Artifact) -> Package:
    """Stage 6.

    Raises:
        StageFailed: the real server gave other answers than were recorded.
    """
    found = at.take(variants, CompressionReport)
    try:
        return at.way.package(data, found.folder / found.value.chosen).value
    except Refused as refused:
        raise StageFailed(refused.verdict.message, do="see this step's log; nothing was registered") from None


def register_made(
    at: Step, made: Made, *, champion: str, source: str, artifact: Artifact, overview: Artifact
) -> Registered:
    """Stage 7, with the same reports and tags as a run on a laptop gives."""
    at.take(made.prepared, PreparedData)
    trained = at.take(made.trained, TrainedModel)
    at.take(made.evaluated, EvaluationReport)
    at.take(made.gated, GateReport)
    variants = at.take(made.variants, CompressionReport)
    report = at.take(made.served, EvaluationReport)
    at.take(made.judged, GateReport)
    packed = at.take(made.archive, Package)
    packed = replace(packed, value=packed.value.within(packed.folder))
    at.walk.keep(metrics={name: metric.value for name, metric in report.value.metrics.items()})
    release = Release(walk=at.walk, project=at.project, services=at.way.services)
    chosen, before = variants.folder / variants.value.chosen, Champion(version=champion or None)
    version = release.register(packed, chosen, report, before, trained.value.run_id)
    made_of = inputs_digest(at.project, code=at.code.digest, source=source)
    wiring.registry().tag(version.model, version.version, {INPUTS: made_of, "modelyard.job": wiring.job()})
    at.tracked.log(tags={"modelyard.version": version.version, "modelyard.digest": version.digest})
    page = f"{wiring.tracking_uri().rstrip('/')}/#/models/{version.model}/versions/{version.version}"
    artifact.metadata.update({"version": version.version, "digest": version.digest, "mlflow_version": page})
    Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
    Path(artifact.path).write_text(json.dumps({"version": version.version, "digest": version.digest}) + "\n")
    lines = [f"# {version.model}, version {version.version}", "", f"- [in MLflow]({page})", f"- `{version.digest}`"]
    lines += [f"- {entry.stage}: {entry.message}" for entry in at.walk.run.stages]
    Path(overview.path).write_text("\n".join(lines) + "\n", "utf-8")
    return Registered(version=version.version, digest=version.digest)
