"""The whole way again on what the data have become; where nothing changed, nothing is trained."""

from typing import Any

from kfp import dsl

from modelyard.spec.pipeline import Pipeline
from modelyard_pipelines.looking import NEW
from modelyard_pipelines.pods import Steps
from modelyard_pipelines.train_and_release import looked, released, summary, trained_on


def retrain_on_schedule(pipeline: Pipeline) -> Any:
    """The pipeline `retrain-on-schedule` with the given structure: `modelyard pipeline schedule` runs it again."""
    steps = Steps(pipeline)

    @dsl.pipeline(name="retrain-on-schedule", description="Train and release again, where the data changed.")
    def way(
        model: str,
        alias: str,
        promote: str,
        data: dict,  # type: ignore[type-arg]
        train: dict,  # type: ignore[type-arg]
        metrics: dict,  # type: ignore[type-arg]
        gates: list,  # type: ignore[type-arg]
        compress: dict,  # type: ignore[type-arg]
        runtime: dict,  # type: ignore[type-arg]
        code: str,
        data_digest: str = "",
    ) -> None:
        given = {
            "model": model, "alias": alias, "promote": promote, "data": data, "train": train, "metrics": metrics,
            "gates": gates, "compress": compress, "runtime": runtime, "code": code, "data_digest": data_digest,
        }  # fmt: skip
        with dsl.ExitHandler(summary(steps, model), name="way"):
            seen = looked(steps, given)
            with dsl.If(seen.outputs["news"] == NEW, name="something-new"):
                prepared = steps("prepare", model=model, data=data, source=seen.outputs["source"])
                trained = trained_on(steps, given, prepared)
                released(steps, given, seen=seen, prepared=prepared, trained=trained.outputs["trained"])
            with dsl.Else(name="nothing-new"):
                steps("unchanged", model=model, source=seen.outputs["source"])

    return way
