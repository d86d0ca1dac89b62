"""Stage 4 as a step."""

from typing import Any, NamedTuple

from kfp import dsl


def gate(
    model: str,
    alias: str,
    data: dict[str, Any],
    train: dict[str, Any],
    metrics: dict[str, Any],
    gates: list[Any],
    compress: dict[str, Any],
    runtime: dict[str, Any],
    code: str,
    store: str,
    prepared: dsl.Input[dsl.Dataset],
    trained: dsl.Input[dsl.Model],
    evaluated: dsl.Input[dsl.Artifact],
    judged: dsl.Output[dsl.Artifact],
    reasons: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
) -> NamedTuple("Gated", [("outcome", str), ("champion", str)]):
    """Hold the candidate against the rules, and against the champion on the same examples."""
    from modelyard.data.prepared import PreparedData
    from modelyard.evaluation.report import EvaluationReport
    from modelyard.runs.stages import Stage
    from modelyard_pipelines.judging import gated
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step

    project = project_of(
        model=model,
        alias=alias,
        data=data,
        train=train,
        metrics=metrics,
        gates=gates,
        compress=compress,
        runtime=runtime,
    )
    with step("gate", project, code=code, store=store) as at:
        at.take(evaluated, EvaluationReport)
        said = gated(at, at.take(prepared, PreparedData), trained)
        at.give(judged, Stage.GATE, outcome=said.outcome, champion=said.champion)
        at.words(reasons, Stage.GATE)
        at.page(report, Stage.GATE)
    return said
