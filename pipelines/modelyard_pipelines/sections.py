"""A project's file as the parameters of a run, section by section, and back.

Kubeflow carries a section as a protobuf Struct, in which every number is a double and nothing is null. So whole numbers
are made whole again on the way back, and what would not survive the way is refused before a run begins.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import BadInput
from modelyard.spec.codec import from_data, to_data
from modelyard.spec.data import Data, Shards
from modelyard.spec.deployment import Runtime
from modelyard.spec.gates import Compress, GateRule
from modelyard.spec.metrics import OwnMetric
from modelyard.spec.project import Deployment, ModelProject, ProjectMetadata
from modelyard.spec.train import RecipeRef, Train

Section = Mapping[str, Any]
_NONE: Section = {}
_ABSENT_DATA = Data(source="-")
_ABSENT_TRAIN = Train(recipe=RecipeRef(use="-"))


def parameters(project: ModelProject, *, code: str) -> dict[str, Any]:
    """What a run of `train_and_release` is given, beside what its compiled file fixes.

    Args:
        project: the file.
        code: digest of the code archive.

    Raises:
        BadInput: the data lie where no pod sees them, or a value would not survive the way.
    """
    _check_source(project.data)
    given = {
        "data": to_data(project.data),
        "train": to_data(project.train),
        "metrics": {name: to_data(metric) for name, metric in project.metrics.items()},
        "gates": [to_data(rule) for rule in project.gates],
        "compress": to_data(project.compress),
        "runtime": to_data(project.deployment.runtime),
    }
    rest: dict[str, Any] = {"model": project.metadata.name, "alias": project.alias, "promote": project.promote}
    back = project_of(**rest, **_doubled(given))
    for name, there in given.items():
        if json.dumps(_section(back, name), sort_keys=True) != json.dumps(there, sort_keys=True):
            raise BadInput(
                f"{name} holds {_first_difference(there, _section(back, name), name)}, which Kubeflow gives back as "
                "another value: its numbers are doubles",
                do="write whole numbers without a point, and no number beyond 2^53",
            )
    return {**rest, **given, "code": code}


def project_of(
    *,
    model: str,
    data: Section | None = None,
    train: Section | None = None,
    metrics: Section = _NONE,
    gates: Sequence[Section] = (),
    compress: Section = _NONE,
    runtime: Section = _NONE,
    alias: str = "champion",
    promote: str = "manual",
) -> ModelProject:
    """The part of a project that a step was given; sections that it was not given are not read there."""
    return ModelProject(
        metadata=ProjectMetadata(name=model),
        data=from_data(Data, whole(data), where="data") if data else _ABSENT_DATA,
        train=from_data(Train, whole(train), where="train") if train else _ABSENT_TRAIN,
        metrics={
            name: from_data(OwnMetric, whole(metric), where=f"metrics.{name}") for name, metric in metrics.items()
        },
        gates=tuple(from_data(GateRule, whole(rule), where="gates") for rule in gates),
        compress=from_data(Compress, whole(compress), where="compress") if compress else Compress(),
        deployment=Deployment(runtime=from_data(Runtime, whole(runtime), where="runtime") if runtime else Runtime()),
        alias=alias,
        promote="automatic" if promote == "automatic" else "manual",
    )


def whole(value: Any) -> Any:
    """The value with whole numbers as such.

    >>> whole({"width": 32.0, "lr": 0.1, "layers": [1.0, True]})
    {'width': 32, 'lr': 0.1, 'layers': [1, True]}
    """
    if isinstance(value, Mapping):
        return {name: whole(below) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [whole(below) for below in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def inputs_digest(project: ModelProject, *, code: str, source: str) -> str:
    """`sha256:…` over all that decides what a run makes, by which a later one knows that there is nothing new."""
    sections = {name: _section(project, name) for name in ("data", "train", "metrics", "gates", "compress", "runtime")}
    text = json.dumps({**sections, "code": code, "source": source}, sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _section(project: ModelProject, name: str) -> Any:
    if name == "metrics":
        return {metric: to_data(declared) for metric, declared in project.metrics.items()}
    if name == "gates":
        return [to_data(rule) for rule in project.gates]
    return to_data(project.deployment.runtime if name == "runtime" else getattr(project, name))


def _doubled(value: Any) -> Any:
    """As a Struct has it."""
    if isinstance(value, Mapping):
        return {name: _doubled(below) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [_doubled(below) for below in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _first_difference(one: Any, other: Any, path: str) -> str:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in one:
            if json.dumps(one[name]) != json.dumps(other.get(name)):
                return _first_difference(one[name], other.get(name), f"{path}.{name}")
    return f"{one!r} ({path})"


def _check_source(data: Data) -> None:
    source = data.source.shards if isinstance(data.source, Shards) else data.source
    if "://" not in source and not source.startswith("bundled:") and not Path(source).is_absolute():
        raise BadInput(
            f"data.source: {source} is a path of this machine, which no pod sees",
            do="put the data into a bucket and write s3://bucket/prefix, or an absolute path on a mounted claim",
        )
