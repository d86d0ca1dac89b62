"""A registered version judged again, as a step."""

from typing import Any, NamedTuple

from kfp import dsl


def evaluate_version(
    model: str,
    alias: str,
    version: str,
    data: dict[str, Any],
    metrics: dict[str, Any],
    gates: list[Any],
    prepared: dsl.Input[dsl.Dataset],
    evaluated: dsl.Output[dsl.Artifact],
    judged: dsl.Output[dsl.Artifact],
    numbers: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    reasons: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
) -> NamedTuple("Judged", [("outcome", str)]):
    """Evaluate a version on the test split of these data, and hold it against these rules; nothing is changed."""
    from modelyard.data.prepared import PreparedData
    from modelyard.runs.stages import Stage
    from modelyard_pipelines.judging import show, version_judged
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step

    project = project_of(model=model, alias=alias, data=data, metrics=metrics, gates=gates)
    with step("evaluate", project) as at:
        said, found = version_judged(at, at.take(prepared, PreparedData), version)
        at.give(evaluated, Stage.EVALUATE, version=version)
        at.give(judged, Stage.GATE, outcome=said.outcome)
        show(found, numbers, confusion)
        at.words(reasons, Stage.GATE)
        at.page(report, Stage.EVALUATE, Stage.GATE)
    return said
