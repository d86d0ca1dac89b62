"""The whole way as a pipeline: from data to a version that a rollout brings in."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from kfp import dsl

from modelyard.spec.pipeline import Pipeline
from modelyard.verdict import Outcome
from modelyard_pipelines.bringing_in import PROMOTED
from modelyard_pipelines.pods import Steps

Inputs = Mapping[str, Any]
"""The pipeline's parameters by name, as channels."""
JUDGED = ("model", "alias", "data", "train", "metrics", "gates", "compress", "runtime", "code")
"""What the steps from the gate on are given."""


def train_and_release(pipeline: Pipeline) -> Any:
    """The pipeline `train-and-release` with the given structure."""
    steps = Steps(pipeline)

    @dsl.pipeline(name="train-and-release", description="From data to a registered, released version.")
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
            prepared = steps("prepare", model=model, data=data, source=seen.outputs["source"])
            trained = trained_on(steps, given, prepared)
            released(steps, given, seen=seen, prepared=prepared, trained=trained.outputs["trained"])

    return way


def summary(steps: Steps, model: Any) -> Any:
    """The exit task."""
    return steps("summarize", model=model, notify=steps.pipeline.notify, title="summary")


def looked(steps: Steps, given: Inputs) -> Any:
    """The first task, which is never cached: what data there are now."""
    return steps("look", **given, store=steps.pipeline.store, modelyard=version("modelyard"))


def trained_on(steps: Steps, given: Inputs, prepared: Any) -> Any:
    """The task that trains."""
    taken = {name: given[name] for name in ("model", "train", "metrics", "code")}
    where = {"store": steps.pipeline.store, "on": steps.pipeline.train_on}
    return steps("train", **taken, **where, prepared=prepared.outputs["prepared"])


def released(steps: Steps, given: Inputs, *, seen: Any, prepared: Any, trained: Any) -> None:
    """Everything after training: each gate has three ways out, and only one goes on."""
    data, model, store = prepared.outputs["prepared"], given["model"], steps.pipeline.store
    judged = {name: given[name] for name in JUDGED}
    evaluated = steps(
        "evaluate", model=model, metrics=given["metrics"], gates=given["gates"], prepared=data, trained=trained
    )
    gated = steps("gate", **judged, store=store, prepared=data, trained=trained,
                  evaluated=evaluated.outputs["evaluated"])  # fmt: skip
    with dsl.If(gated.outputs["outcome"] == Outcome.PASSED.value, name="gate-passed"):
        compressed = steps("compress", **judged, store=store, champion=gated.outputs["champion"], prepared=data,
                           trained=trained)  # fmt: skip
        with dsl.If(compressed.outputs["outcome"] == Outcome.PASSED.value, name="served-passed"):
            packed = steps("package", model=model, runtime=given["runtime"], prepared=data,
                           variants=compressed.outputs["variants"])  # fmt: skip
            registered = steps(
                "register",
                **judged,
                source=seen.outputs["source"],
                champion=gated.outputs["champion"],
                prepared=data,
                trained=trained,
                evaluated=evaluated.outputs["evaluated"],
                gated=gated.outputs["judged"],
                variants=compressed.outputs["variants"],
                served=compressed.outputs["served"],
                judged=compressed.outputs["judged"],
                archive=packed.outputs["archive"],
            )
            brought_in(steps, given, champion=gated.outputs["champion"], registered=registered)
        ends(steps, compressed, model, after="compress", name="served")
    ends(steps, gated, model, after="gate", name="gate")


def brought_in(steps: Steps, given: Inputs, *, champion: Any, registered: Any) -> None:
    """Promote, and await the rollout where the file names one."""
    promoted = steps(
        "promote",
        model=given["model"],
        alias=given["alias"],
        how=given["promote"],
        version=registered.outputs["version"],
        champion=champion,
        wait_s=steps.pipeline.wait_for_promotion.seconds,
    )
    if steps.pipeline.deployment:
        with dsl.If(promoted.outputs["outcome"] == PROMOTED, name="promoted"):
            steps("rollout", model=given["model"], version=registered.outputs["version"],
                  deployment=steps.pipeline.deployment)  # fmt: skip
        with dsl.Else(name="not-promoted"):  # also since Kubeflow's local runner evaluates no `If` without one
            steps("waiting", model=given["model"], alias=given["alias"], version=registered.outputs["version"])


def ends(steps: Steps, judged: Any, model: Any, *, after: str, name: str) -> None:
    """The other two ways out of a gate, right after its first one."""
    with dsl.Elif(judged.outputs["outcome"] == Outcome.INCONCLUSIVE.value, name=f"{name}-inconclusive"):
        steps("inconclusive", model=model, after=after, judged=judged.outputs["judged"],
              title=f"inconclusive after {after}")  # fmt: skip
    with dsl.Else(name=f"{name}-failed"):
        steps("skipped", model=model, after=after, judged=judged.outputs["judged"], title=f"skipped after {after}")
