"""Stage 2 as a step."""

from typing import Any

from kfp import dsl


def train(
    model: str,
    train: dict[str, Any],
    metrics: dict[str, Any],
    code: str,
    store: str,
    on: str,
    prepared: dsl.Input[dsl.Dataset],
    trained: dsl.Output[dsl.Model],
    numbers: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Train: `on` says whether in this pod (`here`) or as a job of the cluster (`kubernetes`)."""
    from modelyard.data.prepared import PreparedData
    from modelyard.runs.stages import Stage
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step
    from modelyard_pipelines.training import told, trained_on

    with step("train", project_of(model=model, train=train, metrics=metrics), code=code, store=store) as at:
        made = trained_on(on, at, at.take(prepared, PreparedData))
        at.give(trained, Stage.TRAIN, digest=made.digest, code=code, mlflow_run_id=made.run_id or "")
        for name, value in told(made).items():
            numbers.log_metric(name, value)
        at.page(report, Stage.TRAIN)
