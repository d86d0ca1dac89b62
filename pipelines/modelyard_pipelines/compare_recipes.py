"""Several recipes trained side by side; the best on the validation split goes on to the gates."""

from typing import Any

from kfp import dsl

from modelyard.spec.pipeline import Pipeline
from modelyard_pipelines.pods import Steps
from modelyard_pipelines.train_and_release import looked, released, summary, trained_on


def compare_recipes(pipeline: Pipeline) -> Any:
    """The pipeline `compare-recipes` with the given structure; `recipes` are whole `train` sections."""
    steps = Steps(pipeline)

    @dsl.pipeline(name="compare-recipes", description="The best of several recipes, released.")
    def way(
        model: str,
        alias: str,
        promote: str,
        data: dict,  # type: ignore[type-arg]
        recipes: list[dict],  # type: ignore[type-arg]
        by: str,
        metrics: dict,  # type: ignore[type-arg]
        gates: list,  # type: ignore[type-arg]
        compress: dict,  # type: ignore[type-arg]
        runtime: dict,  # type: ignore[type-arg]
        code: str,
        data_digest: str = "",
    ) -> None:
        given: dict[str, Any] = {
            "model": model, "alias": alias, "promote": promote, "data": data, "train": {}, "metrics": metrics,
            "gates": gates, "compress": compress, "runtime": runtime, "code": code, "data_digest": data_digest,
        }  # fmt: skip
        with dsl.ExitHandler(summary(steps, model), name="way"):
            seen = looked(steps, given)
            prepared = steps("prepare", model=model, data=data, source=seen.outputs["source"])
            with dsl.ParallelFor(items=recipes, name="recipes") as train:
                each = trained_on(steps, {**given, "train": train}, prepared)
            best = steps("choose", model=model, by=by, metrics=metrics,
                         candidates=dsl.Collected(each.outputs["trained"]))  # fmt: skip
            chosen = {**given, "train": best.outputs["train"]}
            released(steps, chosen, seen=seen, prepared=prepared, trained=best.outputs["trained"])

    return way
