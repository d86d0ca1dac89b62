"""Stage 1 as a step."""

from typing import Any

from kfp import dsl


def prepare(
    model: str,
    data: dict[str, Any],
    source: str,
    prepared: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Read, check, split and shard the data; `source` is the digest of what they hold now."""
    from modelyard.runs.stages import Stage
    from modelyard_pipelines.looking import same_source
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step

    with step("prepare", project_of(model=model, data=data)) as at:
        same_source(at, source)
        made = at.way.prepare()
        at.give(prepared, Stage.PREPARE, fingerprint=made.value.fingerprint, examples=dict(made.value.counts))
        at.page(report, Stage.PREPARE)
