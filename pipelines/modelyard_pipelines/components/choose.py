"""Of several trainings the best, as a step."""

from typing import Any, NamedTuple

from kfp import dsl


def choose(
    model: str,
    by: str,
    metrics: dict[str, Any],
    candidates: dsl.Input[list[dsl.Model]],
    trained: dsl.Output[dsl.Model],
    table: dsl.Output[dsl.Markdown],
) -> NamedTuple("Chosen", [("train", dict)]):
    """Take the training that is best `by` a metric of the validation split; the test split is the gate's alone."""
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step
    from modelyard_pipelines.training import chosen

    with step("choose", project_of(model=model, metrics=metrics)) as at:
        return chosen(at, candidates, by=by, trained=trained, table=table)
