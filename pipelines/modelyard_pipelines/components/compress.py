"""Stage 5 as a step."""

from typing import Any, NamedTuple

from kfp import dsl


def compress(
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
    champion: str,
    prepared: dsl.Input[dsl.Dataset],
    trained: dsl.Input[dsl.Model],
    variants: dsl.Output[dsl.Model],
    served: dsl.Output[dsl.Artifact],
    judged: dsl.Output[dsl.Artifact],
    numbers: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    reasons: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
) -> NamedTuple("Compressed", [("outcome", str)]):
    """Make variants, choose one, and hold it against the rules once more: what is gated is what will serve."""
    from modelyard.data.prepared import PreparedData
    from modelyard.runs.stages import Stage
    from modelyard_pipelines.judging import compressed, show
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
    with step("compress", project, code=code, store=store) as at:
        said, found = compressed(at, at.take(prepared, PreparedData), trained, champion)
        at.give(variants, Stage.COMPRESS, chosen=found.variant, digest=found.model)
        at.give(served, Stage.COMPRESS, more="served")
        at.give(judged, Stage.COMPRESS, more="gates", outcome=said.outcome)
        show(found, numbers, confusion)
        at.words(reasons, Stage.COMPRESS)
        at.page(report, Stage.COMPRESS)
    return said
