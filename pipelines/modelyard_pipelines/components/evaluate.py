"""Stage 3 as a step."""

from typing import Any

from kfp import dsl


def evaluate(
    model: str,
    metrics: dict[str, Any],
    gates: list[Any],
    prepared: dsl.Input[dsl.Dataset],
    trained: dsl.Input[dsl.Model],
    evaluated: dsl.Output[dsl.Artifact],
    numbers: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Judge the model on the test split, example by example; `gates` name the slices and metrics to show."""
    from modelyard.data.prepared import PreparedData
    from modelyard.runs.stages import Stage
    from modelyard_pipelines.judging import evaluated_on, show
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step

    with step("evaluate", project_of(model=model, metrics=metrics, gates=gates)) as at:
        made = evaluated_on(at, at.take(prepared, PreparedData), trained)
        at.give(evaluated, Stage.EVALUATE, model=made.model, split=made.split_digest)
        show(made, numbers, confusion)
        at.page(report, Stage.EVALUATE)
