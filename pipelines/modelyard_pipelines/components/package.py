"""Stage 6 as a step."""

from typing import Any

from kfp import dsl


def package(
    model: str,
    runtime: dict[str, Any],
    prepared: dsl.Input[dsl.Dataset],
    variants: dsl.Input[dsl.Model],
    archive: dsl.Output[dsl.Model],
) -> None:
    """Write the archive, and let a real server answer the golden requests from it."""
    from modelyard.data.prepared import PreparedData
    from modelyard.runs.stages import Stage
    from modelyard_pipelines.releasing import packaged
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step

    with step("package", project_of(model=model, runtime=runtime)) as at:
        made = packaged(at, at.take(prepared, PreparedData), variants)
        at.give(archive, Stage.PACKAGE, digest=made.digest, variant=made.variant, bytes=made.bytes)
