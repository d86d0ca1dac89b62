"""Stage 7 as a step."""

from typing import Any, NamedTuple

from kfp import dsl


def register(
    model: str,
    alias: str,
    data: dict[str, Any],
    train: dict[str, Any],
    metrics: dict[str, Any],
    gates: list[Any],
    compress: dict[str, Any],
    runtime: dict[str, Any],
    code: str,
    source: str,
    champion: str,
    prepared: dsl.Input[dsl.Dataset],
    trained: dsl.Input[dsl.Model],
    evaluated: dsl.Input[dsl.Artifact],
    gated: dsl.Input[dsl.Artifact],
    variants: dsl.Input[dsl.Model],
    served: dsl.Input[dsl.Artifact],
    judged: dsl.Input[dsl.Artifact],
    archive: dsl.Input[dsl.Model],
    registered: dsl.Output[dsl.Model],
    overview: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
) -> NamedTuple("Registered", [("version", str), ("digest", str)]):
    """Register one version for the archive's digest, and let `candidate` name it. The report is of the whole way."""
    from modelyard_pipelines.releasing import Made, register_made
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
    with step("register", project, code=code) as at:
        made = Made(prepared, trained, evaluated, gated, variants, served, judged, archive)
        version = register_made(at, made, champion=champion, source=source, artifact=registered, overview=overview)
        at.page(report)
    return version
