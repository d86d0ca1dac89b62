"""A training as it is submitted to a cluster: its name, its kind of job, and what the cluster says of it before."""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from modelyard.errors import BadInput, Forbidden, ModelyardError, NotInstalled
from modelyard.kube.metadata import fit
from modelyard.kube.port import NODE, PERSISTENT_VOLUME_CLAIM, SECRET, Cluster
from modelyard.storage.atomic import digest_bytes
from modelyard.training import preflight, shipping
from modelyard.training.apis import APIS, Api
from modelyard.training.job import ClusterJob, TrainJob

OnCancel = Literal["suspend", "delete"]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where and how a training runs on a cluster."""

    name: str
    """Of the model; the job's name begins with it."""
    namespace: str
    store: str
    """Address of the artifact store, that pods can reach: `s3://bucket/prefix`."""
    image: str = ""
    """Where `train.resources.image` names none."""
    api: Literal["", "PyTorchJob", "TrainJob"] = ""
    """The first of the two that the cluster knows, when empty."""
    on_cancel: OnCancel = "delete"
    """What becomes of the job when the launcher is told to stop. Both keep the last checkpoint."""
    patience_s: float = 900.0
    """How long pods may find no place until that is the end; in a queue they may wait for ever."""
    environment: Mapping[str, str] | None = None
    """More variables of the pods, like the bucket's endpoint."""


def job_name(model: str, key: str, image: str) -> str:
    """The name that a training always has: of the model, of what is trained and of the image.

    >>> job_name("digits", "sha256:a1", "training:1")
    'train-digits-1ce3a6c9e1'
    """
    mark = digest_bytes(f"{key} {image}".encode()).removeprefix("sha256:")[:10]
    return f"train-{fit(model, limit=30)}-{mark}"


def describe(job: TrainJob, kube: Cluster, launch: Launch) -> tuple[Api, ClusterJob]:
    """The job as the cluster will see it, checked against what the cluster says.

    Raises:
        BadInput: the cluster cannot run it; see `modelyard.training.preflight`.
        NotInstalled: it knows neither kind of job.
        Forbidden: it lets us see neither.
    """
    resources = job.train.resources
    image = resources.image or launch.image
    if not image:
        raise BadInput("train.resources.image is missing: a cluster needs one",
                       do="name an image with this version of Modelyard in it")  # fmt: skip
    if launch.on_cancel == "suspend" and resources.queue:
        raise BadInput("--on-cancel suspend cannot act in a queue, which would let the job go on", do="use delete")
    api = _api(kube, launch)
    label = preflight.GPU_LABELS[0]
    with suppress(Forbidden):  # nodes are seen by few; the scheduler will say the same later
        label = preflight.gpu_label(resources, kube.list(NODE).items)
    if resources.secret:
        with suppress(Forbidden):
            found = kube.get(SECRET, launch.namespace, resources.secret)
            preflight.check_secret(found, resources.secret, launch.namespace)
    if claim := resources.checkpoints.claim:
        with suppress(Forbidden):
            found = kube.get(PERSISTENT_VOLUME_CLAIM, launch.namespace, claim)
            preflight.check_claim(found, claim, launch.namespace, nodes=resources.nodes)
    key = shipping.key_of(job)
    described = ClusterJob(
        name=job_name(launch.name, key, image), namespace=launch.namespace, key=key, resources=resources, image=image,
        version=version("modelyard"), store=launch.store, attempt=secrets.token_hex(4), gpu_label=label,
        environment=launch.environment or {},
    )  # fmt: skip
    api.job(described)  # refuses what this kind cannot do
    return api, described


def _api(kube: Cluster, launch: Launch) -> Api:
    refused: list[ModelyardError] = []
    for api in APIS:
        if launch.api in ("", api.kind.kind):
            try:
                kube.get(api.kind, launch.namespace, "none")
            except (NotInstalled, Forbidden) as error:
                refused.append(error)
            else:
                return api
    if all(isinstance(error, NotInstalled) for error in refused):
        wanted = launch.api or "neither PyTorchJob (kubeflow.org/v1) nor TrainJob (trainer.kubeflow.org/v1alpha1)"
        raise NotInstalled(f"the cluster knows {'no ' if launch.api else ''}{wanted}",
                           do="install Kubeflow's training-operator 1.9 or Trainer 2.3")  # fmt: skip
    raise next(error for error in refused if isinstance(error, Forbidden))
