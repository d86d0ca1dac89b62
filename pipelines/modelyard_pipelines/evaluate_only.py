"""A registered version on the data of today, held against the rules; nothing is registered or moved."""

from typing import Any

from kfp import dsl

from modelyard.spec.pipeline import Pipeline
from modelyard_pipelines.pods import Steps
from modelyard_pipelines.train_and_release import looked, summary


def evaluate_only(pipeline: Pipeline) -> Any:
    """The pipeline `evaluate-only` with the given structure."""
    steps = Steps(pipeline)

    @dsl.pipeline(name="evaluate-only", description="A registered version judged on the data of today.")
    def way(
        model: str,
        alias: str,
        version: str,
        data: dict,  # type: ignore[type-arg]
        metrics: dict,  # type: ignore[type-arg]
        gates: list,  # type: ignore[type-arg]
        code: str,
        data_digest: str = "",
    ) -> None:
        given: dict[str, Any] = {
            "model": model, "alias": alias, "promote": "manual", "data": data, "train": {}, "metrics": metrics,
            "gates": gates, "compress": {}, "runtime": {}, "code": code, "data_digest": data_digest,
        }  # fmt: skip
        with dsl.ExitHandler(summary(steps, model), name="way"):
            seen = looked(steps, given)
            prepared = steps("prepare", model=model, data=data, source=seen.outputs["source"])
            steps("evaluate_version", model=model, alias=alias, version=version, data=data, metrics=metrics,
                           gates=gates, prepared=prepared.outputs["prepared"], title="evaluate version")  # fmt: skip

    return way
