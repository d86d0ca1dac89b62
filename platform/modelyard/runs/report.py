"""A run's record and results, gathered into what `reports` renders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modelyard.compression.report import CompressionReport
from modelyard.data.prepared import PreparedData
from modelyard.errors import ModelyardError
from modelyard.evaluation.gate import GateReport
from modelyard.evaluation.report import EvaluationReport
from modelyard.packaging.packed import Package
from modelyard.registry.port import Version
from modelyard.reports.html import render
from modelyard.reports.view import RunView, StageView
from modelyard.rollout.laptop.records import FileRecords
from modelyard.runs.journal import RunRecord
from modelyard.runs.rollout import deployment_key
from modelyard.runs.stages import Stage
from modelyard.spec.codec import from_json
from modelyard.spec.rollout import ModelRollout
from modelyard.training.job import TrainedModel

T = TypeVar("T")


def run_html(state: Path, run: RunRecord) -> str:
    """The report of a run, one self-contained HTML page. What was not reached, or was cleaned away, is left out."""
    return render(view_of(state, run))


def view_of(state: Path, run: RunRecord) -> RunView:
    """All that is known of a run."""

    def result(stage: Stage, cls: type[T], more: str | None = None) -> T | None:
        entry = run.entry(stage)
        folder = entry and (entry.more.get(more) if more else entry.folder)
        return _read(state / folder / "result.json", cls) if folder else None

    prepared, trained = result(Stage.PREPARE, PreparedData), result(Stage.TRAIN, TrainedModel)
    package = result(Stage.PACKAGE, Package)
    digests = {
        "code": run.code_digest,
        "data": prepared.fingerprint if prepared else "",
        "weights": trained.digest if trained else "",
        "archive": package.digest if package else "",
    }
    return RunView(
        model=run.project.metadata.name,
        run=run.id,
        started_at=run.started_at,
        ended_at=run.ended_at,
        state=run.state,
        message=run.message,
        stages=tuple(
            StageView(stage=e.stage, seconds=e.seconds, cached=e.cached, message=e.message, verdict=e.verdict)
            for e in run.stages
        ),
        data=prepared,
        data_report=_data_report(state, run),
        trained=trained,
        evaluation=result(Stage.EVALUATE, EvaluationReport),
        gates=result(Stage.GATE, GateReport),
        compression=result(Stage.COMPRESS, CompressionReport),
        served=result(Stage.COMPRESS, EvaluationReport, "served"),
        served_gates=result(Stage.COMPRESS, GateReport, "gates"),
        package=package,
        version=_version(run),
        alias=run.project.alias,
        champion=_champion(state, run),
        rollout=_rollout(state, run),
        lineage={what: digest for what, digest in digests.items() if digest},
    )


def _read(path: Path, cls: type[T]) -> T | None:
    return _or_none(lambda: from_json(cls, path.read_text(), where=str(path)))


def _data_report(state: Path, run: RunRecord) -> dict[str, object] | None:
    entry = run.entry(Stage.PREPARE)
    return _or_none(lambda: dict(json.loads((state / entry.folder / "report.json").read_text()))) if entry else None


def _rollout(state: Path, run: RunRecord) -> ModelRollout | None:
    records, key = FileRecords(state / "yard" / "records"), deployment_key(run.project)
    found = _or_none(lambda: [r for r in records.rollouts(key) if r.metadata.name == run.rollout])
    return found[0] if found else None


def _version(run: RunRecord) -> Version | None:
    if run.version is None or run.digest is None:
        return None
    return Version(model=run.project.metadata.name, version=run.version, digest=run.digest)


def _champion(state: Path, run: RunRecord) -> str | None:
    """What the alias named when the loop last looked; no server is asked, so that a report needs none."""
    deployment = FileRecords(state / "yard" / "records").deployment(deployment_key(run.project))
    return deployment.status.alias.get("version") if deployment else None


def _or_none(read: Callable[[], T]) -> T | None:
    """What is there; a report shows the rest."""
    try:
        return read()
    except (OSError, ValueError, ModelyardError):
        return None
