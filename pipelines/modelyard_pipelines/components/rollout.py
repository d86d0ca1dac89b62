"""Stages 9 and 10 as a step: they are the operator's; the step awaits its verdict."""

from kfp import dsl


def rollout(model: str, version: str, deployment: str, words: dsl.Output[dsl.Markdown]) -> None:
    """Wait until the version is stable, or fail with the reason for which it is not."""
    from modelyard_pipelines.bringing_in import rolled_out
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step

    with step("rollout", project_of(model=model)) as at:
        rolled_out(at, version=version, deployment=deployment, words=words)
