"""What must be true of `train.resources` before a cluster is asked: each field acts or is refused."""

import re
from collections.abc import Iterator
from typing import Final

from modelyard.spec.check_numbers import at_least, positive
from modelyard.spec.problem import FieldPath, Problem
from modelyard.spec.train import TrainResources
from modelyard.units import Quantity

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_TOLERATION: Final = frozenset({"key", "operator", "value", "effect", "tolerationSeconds"})


def check_resources(resources: TrainResources, at: FieldPath) -> Iterator[Problem]:
    """What is wrong with what a training asks of a cluster."""
    yield from _pod(resources, at)
    yield from positive(resources.ttl, (*at, "ttl"))
    if resources.deadline is not None:
        yield from positive(resources.deadline, (*at, "deadline"))
    if resources.nodes > 1 and resources.checkpoints.claim is None:
        message = "is missing: each of several nodes writes a part; name a PersistentVolumeClaim that all can write to"
        yield Problem(field=(*at, "checkpoints", "claim"), message=message)
    yield from _elastic(resources, at)
    yield from _names(resources, at)
    for index, toleration in enumerate(resources.tolerations):
        if unknown := set(toleration) - _TOLERATION:
            message = f"has no {min(unknown)}; it takes {', '.join(sorted(_TOLERATION))}"
            yield Problem(field=(*at, "tolerations", str(index)), message=message)


def _pod(resources: TrainResources, at: FieldPath) -> Iterator[Problem]:
    yield from at_least(0, resources.gpus, (*at, "gpus"))
    if resources.gpus > 0 and resources.gpus != resources.processes_per_node:
        message = f"{resources.gpus} GPUs for {resources.processes_per_node} processesPerNode; one process has one GPU"
        yield Problem(field=(*at, "gpus"), message=message)
    if resources.gpu_type is not None and not resources.gpus:
        yield Problem(field=(*at, "gpuType"), message="cannot act without gpus")
    if resources.image is not None and (not resources.image or resources.image.split() != [resources.image]):
        yield Problem(field=(*at, "image"), message=f"{resources.image!r} is no image; write it like registry/name:tag")
    amounts: dict[str, Quantity | None] = {"cpu": resources.cpu, "memory": resources.memory, "shm": resources.shm}
    for name, amount in amounts.items():
        if amount is not None and amount.value <= 0:
            yield Problem(field=(*at, name), message=f"{amount} is nothing at all; give more or leave it out")
    if resources.shm and resources.memory and resources.shm.value > resources.memory.value:
        message = f"{resources.shm} > memory {resources.memory}, of which it is a part"
        yield Problem(field=(*at, "shm"), message=message)


def _elastic(resources: TrainResources, at: FieldPath) -> Iterator[Problem]:
    elastic, here = resources.elastic, (*at, "elastic")
    if elastic is None:
        return
    yield from at_least(1, elastic.min_nodes, (*here, "minNodes"))
    if not elastic.min_nodes <= resources.nodes <= elastic.max_nodes:
        message = f"nodes {resources.nodes} is not from minNodes {elastic.min_nodes} to maxNodes {elastic.max_nodes}"
        yield Problem(field=here, message=message)
    elif elastic.min_nodes == elastic.max_nodes:
        message = f"cannot act: minNodes and maxNodes are both {elastic.min_nodes}"
        yield Problem(field=here, message=message)
    if resources.checkpoints.claim is None:
        message = "needs checkpoints.claim: a node that comes later must find the checkpoint"
        yield Problem(field=here, message=message)


def _names(resources: TrainResources, at: FieldPath) -> Iterator[Problem]:
    names: tuple[tuple[FieldPath, str | None], ...] = (
        (("queue",), resources.queue), (("serviceAccount",), resources.service_account),
        (("secret",), resources.secret), (("checkpoints", "claim"), resources.checkpoints.claim),
    )  # fmt: skip
    for path, name in names:
        if name is not None and not _NAME.fullmatch(name):
            message = f"{name!r} is no name in Kubernetes; use lower-case letters, digits, - and ."
            yield Problem(field=(*at, *path), message=message)
    for path, label in (
        *((("nodeSelector", key), key) for key in resources.node_selector),
        *([(("topology",), resources.topology)] if resources.topology is not None else []),
    ):
        if not _LABEL.fullmatch(label):
            message = f"{label!r} is no label; write it like topology.kubernetes.io/zone"
            yield Problem(field=(*at, *path), message=message)
