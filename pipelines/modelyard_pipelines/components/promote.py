"""Stage 8 as a step."""

from typing import NamedTuple

from kfp import dsl


def promote(
    model: str,
    alias: str,
    how: str,
    version: str,
    champion: str,
    wait_s: float,
    words: dsl.Output[dsl.Markdown],
) -> NamedTuple("Promoted", [("outcome", str)]):
    """Move the alias (`automatic`), or wait until a person does, at most `wait_s` seconds."""
    from modelyard_pipelines.bringing_in import promoted
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step

    with step("promote", project_of(model=model, alias=alias, promote=how)) as at:
        return promoted(at, version=version, champion=champion, wait_s=wait_s, words=words)
