"""What the train step does: in its own pod, or as a job of the cluster beside it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.data.prepared import PreparedData
from modelyard.errors import BadInput, Unavailable
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Result
from modelyard.spec.codec import from_json, to_data
from modelyard.spec.metrics import metric_kind
from modelyard.storage.port import PASSED_ON
from modelyard.training.files import JOB
from modelyard.training.job import TrainedModel, TrainJob
from modelyard_pipelines.looking import rules_of
from modelyard_pipelines.step import Artifact, Step


class Chosen(NamedTuple):
    """The `train` section of the best candidate."""

    train: dict[str, Any]


def trained_on(place: str, at: Step, data: Result[PreparedData]) -> TrainedModel:
    """Train `here` or on `kubernetes`; a try after a killed one goes on from its last checkpoint where that was kept.

    On Kubernetes the step starts a job of the same name as `modelyard train --on kubernetes` would, finds it again
    when it is tried again, shows every rank's log, and brings the result home.

    Raises:
        BadInput: the data have a class that a version never learnt which a gate will compare with.
    """
    try:
        alias, gates = rules_of(at.project.metadata.name)
    except Unavailable as away:  # the gate refuses the same, later
        print(f"rules are not looked into before training: {away}", flush=True)
        alias, gates = "", ()
    way = replace(at.way, project=replace(at.project, alias=alias or at.project.alias, gates=gates))
    if place == "kubernetes":
        way = replace(way, trainer=on_kubernetes(at))
    return way.train(data).value


def on_kubernetes(at: Step) -> Callable[..., TrainedModel]:
    """What trains as a job beside this pod, in its namespace, with the pod's own image and store."""
    from modelyard.kube.client import connect, namespace_of_context  # noqa: PLC0415
    from modelyard.training.launcher import train_on_kubernetes  # noqa: PLC0415
    from modelyard.training.submit import Launch  # noqa: PLC0415

    launch = Launch(
        name=at.project.metadata.name,
        namespace=os.environ.get("MODELYARD_NAMESPACE") or namespace_of_context(None),
        store=at.store,
        image=os.environ.get("MODELYARD_IMAGE", ""),
        environment={name: os.environ[name] for name in PASSED_ON if name in os.environ},
    )
    return partial(train_on_kubernetes, kube=connect(), launch=launch, log=partial(print, flush=True))


def chosen(at: Step, candidates: Sequence[Artifact], *, by: str, trained: Artifact, table: Artifact) -> Chosen:
    """The best of several trainings by a metric of the validation split, handed on as if it were the only one.

    Raises:
        BadInput: no candidate has the metric; the message names those there are.
    """
    results = [at.take(one, TrainedModel) for one in candidates]
    numbers = [told(one.value) for one in results]
    name = f"validation_{by}"
    missing = [at for at, one in enumerate(numbers) if name not in one]
    if missing:
        known = sorted({key.removeprefix("validation_") for one in numbers for key in one if "validation_" in key})
        raise BadInput(f"by: candidate {missing[0] + 1} has no {by} on the validation split", do=f"name one of {known}")
    kind = metric_kind(by, at.project.metrics)
    sign = -1.0 if kind is not None and kind.better == "higher" else 1.0
    best = min(range(len(results)), key=lambda index: sign * numbers[index][name])
    at.take(candidates[best], TrainedModel)  # the record's last word on training
    job = from_json(TrainJob, (results[best].folder / JOB).read_text(), where=str(results[best].folder / JOB))
    at.give(trained, Stage.TRAIN, digest=results[best].value.digest, by=f"{by} {numbers[best][name]:.4g}")
    Path(table.path).write_text(_table(numbers, best, by), "utf-8")
    return Chosen(train=to_data(job.train))


def _table(numbers: Sequence[Mapping[str, float]], best: int, by: str) -> str:
    names = list(dict.fromkeys(name for one in numbers for name in one))
    lines = [f"# Candidate {best + 1} is best by {by}", "", "| candidate | " + " | ".join(names) + " |"]
    lines += ["| --- |" + " ---: |" * len(names)]
    for index, one in enumerate(numbers):
        cells = [f"{one[name]:.4g}" if name in one else "-" for name in names]
        lines.append(f"| {index + 1}{' **best**' if index == best else ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def told(trained: TrainedModel) -> Mapping[str, float]:
    """What the UI shows of a training: numbers of the epoch whose weights were kept."""
    best = next((one for one in trained.epochs if one.epoch == trained.best_epoch), None)
    found = {"epochs": float(len(trained.epochs)), "examples_per_second": round(trained.examples_per_second, 1)}
    if best is not None:
        found["train_loss"] = best.train_loss
        found |= {"validation_loss": best.validation_loss} if best.validation_loss is not None else {}
        found |= {f"validation_{name}": value for name, value in best.validation_metrics.items()}
    return found
