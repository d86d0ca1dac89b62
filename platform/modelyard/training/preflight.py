"""What a cluster's nodes say about a training before it is submitted. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from modelyard.errors import BadInput
from modelyard.kube.metadata import labels_of
from modelyard.kube.port import Object
from modelyard.spec.problem import did_you_mean
from modelyard.spec.train import TrainResources
from modelyard.training.pod import GPU
from modelyard.units import Quantity

GPU_LABELS: Final = (
    "nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name",
    "k8s.amazonaws.com/accelerator", "accelerator",
)  # fmt: skip
"""Labels of nodes that name their GPU: of NVIDIA's feature discovery, and of clouds."""
SECRET_KEYS: Final = ("accessKeyID", "secretAccessKey")


def gpu_label(resources: TrainResources, nodes: Sequence[Object]) -> str:
    """The label by which nodes name the wanted GPU.

    Where no node has a GPU, they may come when they are asked for: nothing is refused.

    Raises:
        BadInput: nodes name GPUs, and none this one; or none has so many.
    """
    if not resources.gpus:
        return GPU_LABELS[0]
    label, fitting = GPU_LABELS[0], list(nodes)
    if (wanted := resources.gpu_type) is not None:
        label = next((each for each in GPU_LABELS if wanted in _values(nodes, each)), "")
        if not label:
            known: Counter[str] = sum((_values(nodes, each) for each in GPU_LABELS), Counter())
            if not known:
                return GPU_LABELS[0]
            there = ", ".join(f"{name} ({_count(number)})" for name, number in sorted(known.items()))
            raise BadInput(
                f"train.resources.gpuType: no node has {wanted} (there are: {there})", do=did_you_mean(wanted, known)
            )
        fitting = [node for node in nodes if labels_of(node).get(label) == wanted]
    fitting = [node for node in fitting if _has(labels_of(node), resources.node_selector)]
    most = max((gpus_of(node) for node in fitting), default=0)
    if 0 < most < resources.gpus:
        kind = f" of {resources.gpu_type}" if resources.gpu_type else ""
        raise BadInput(
            f"train.resources.gpus: {resources.gpus}{kind} for each node, but no node has more than {most}",
            do=f"ask for at most {most}, and for more nodes",
        )
    return label


def gpus_of(node: Object) -> int:
    """GPUs that pods can have of a node."""
    return int(Quantity(str((node.get("status") or {}).get("allocatable", {}).get(GPU, "0"))).value)


def check_secret(secret: Object | None, name: str, namespace: str) -> None:
    """Refuse a Secret that is not there or has no credentials.

    Raises:
        BadInput: see the message.
    """
    if secret is None:
        raise BadInput(f"train.resources.secret: there is no Secret {name} in namespace {namespace}",
                       do=f"make it with {' and '.join(SECRET_KEYS)}")  # fmt: skip
    if missing := [key for key in SECRET_KEYS if key not in (secret.get("data") or {})]:
        raise BadInput(f"Secret {namespace}/{name} has no {' and no '.join(missing)}",
                       do=f"put {' and '.join(missing)} into it")  # fmt: skip


def check_claim(claim: Object | None, name: str, namespace: str, *, nodes: int) -> None:
    """Refuse a claim that is not there or that several nodes cannot write to.

    Raises:
        BadInput: see the message.
    """
    if claim is None:
        raise BadInput(
            f"train.resources.checkpoints.claim: there is no PersistentVolumeClaim {name} in namespace {namespace}",
            do="make it, or name another one",
        )
    modes = claim["spec"].get("accessModes") or ()
    if nodes > 1 and "ReadWriteMany" not in modes:
        raise BadInput(
            f"PersistentVolumeClaim {namespace}/{name} is {', '.join(modes)}: {nodes} nodes cannot write to it",
            do="make one with ReadWriteMany",
        )


def _values(nodes: Sequence[Object], label: str) -> Counter[str]:
    return Counter(labels_of(node)[label] for node in nodes if label in labels_of(node))


def _has(mine: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(mine.get(name) == value for name, value in wanted.items())


def _count(number: int) -> str:
    return f"{number} node{'' if number == 1 else 's'}"
