"""What the steps evaluate, gate and compress do around their stages: a refusal is an outcome, not a failure."""

from pathlib import Path
from typing import Any, NamedTuple

from modelyard.data.prepared import PreparedData
from modelyard.errors import BadInput
from modelyard.evaluation.report import EvaluationReport
from modelyard.runs.champion import Champion, champion_of, version_of
from modelyard.runs.release import Refused
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Result
from modelyard.spec.codec import from_json
from modelyard.training.job import MODEL, TrainedModel
from modelyard.verdict import Outcome
from modelyard_pipelines import wiring
from modelyard_pipelines.step import Artifact, Step


class Gated(NamedTuple):
    """What a gate came to, and against which version; empty where there was none."""

    outcome: str
    champion: str


class Compressed(NamedTuple):
    """What the gate said of the variant that will serve."""

    outcome: str


def evaluated_on(at: Step, data: Result[PreparedData], trained: Artifact) -> EvaluationReport:
    """Stage 3 on a trained model."""
    at.way.evaluate(data, _model(at, trained))
    return _report(at, at.entry(Stage.EVALUATE).folder)


def gated(at: Step, data: Result[PreparedData], trained: Artifact) -> Gated:
    """Stage 4 on a trained model."""
    try:
        champion = at.way.gate(data, _model(at, trained))
    except Refused as refused:
        return Gated(outcome=refused.verdict.outcome, champion="")
    return Gated(outcome=Outcome.PASSED, champion=champion.version or "")


def compressed(
    at: Step, data: Result[PreparedData], trained: Artifact, champion: str
) -> tuple[Compressed, EvaluationReport]:
    """Stage 5, against the champion that the gate saw."""
    into = at.walk.state / "champions"
    known = version_of(wiring.registry(), at.project, champion, into=into) if champion else Champion()
    outcome = Outcome.PASSED
    try:
        at.way.compress(data, _model(at, trained), known)
    except Refused as refused:
        outcome = refused.verdict.outcome
    return Compressed(outcome=outcome), _report(at, at.entry(Stage.COMPRESS).more["served"])


def version_judged(at: Step, data: Result[PreparedData], number: str) -> tuple[Compressed, EvaluationReport]:
    """Stages 3 and 4 on a registered version: all rules, since it serves.

    Raises:
        BadInput: it is not registered, or its archive cannot be used.
    """
    into = at.walk.state / "champions"
    found = version_of(wiring.registry(), at.project, number, into=into)
    if found.folder is None:
        assert found.missing is not None
        raise BadInput(f"version: {found.missing.message}", do="name a registered one")
    at.way.evaluate(data, found.folder)
    began = at.walk.begin(Stage.GATE)
    champion = champion_of(wiring.registry(), at.project, mine={"modelyard.run": "none"}, into=into)
    result = at.way.judging(data).judge(found.folder, champion, at.project.gates)
    verdict = result.value.verdict
    at.walk.note(Stage.GATE, began=began, result=result, message=verdict.message, verdict=verdict)
    return Compressed(outcome=verdict.outcome), _report(at, at.entry(Stage.EVALUATE).folder)


def show(report: EvaluationReport, numbers: Any, confusion: Any) -> None:
    """The metrics as the UI's numbers, and the confusion as its table.

    Args:
        report: of one split.
        numbers: a `Metrics` artifact.
        confusion: a `ClassificationMetrics` artifact; stays empty for what are no classes.
    """
    for name, metric in report.metrics.items():
        numbers.log_metric(name, metric.value)
    numbers.log_metric("examples", report.examples)
    if report.confusion:
        confusion.log_confusion_matrix(list(report.classes), [list(row) for row in report.confusion])


def _model(at: Step, trained: Artifact) -> Path:
    return at.take(trained, TrainedModel).folder / MODEL


def _report(at: Step, place: str) -> EvaluationReport:
    path = at.walk.state / place / "result.json"
    return from_json(EvaluationReport, path.read_text(), where=str(path))
