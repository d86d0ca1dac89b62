"""The `pipeline` section: what is fixed when the project's Kubeflow pipelines are compiled.

What changes from run to run (data, training, gates) are parameters of a run; what stands here is the structure of its
pods. Quantities, tolerations and mounts mean what Kubernetes means by them.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from modelyard.record import record
from modelyard.units import Duration, Quantity

STEPS = ("prepare", "train", "evaluate", "gate", "compress", "package", "register", "promote", "rollout")
"""Steps whose pods a file can speak of: those of the stages."""


@record
class Toleration:
    """A taint that a step's pod tolerates."""

    key: str | None = None
    """The taint's key; every key when absent, with `operator: Exists`."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """`Exists` asks for no value."""
    value: str | None = None
    """With `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Every effect when absent."""


@record
class Retries:
    """How often a step is tried again, and after how long."""

    most: int = 0
    """Tries after the first."""
    backoff: Duration = Duration("10s")
    """Wait before the first of them."""
    factor: float = 2.0
    """Each wait is so many times the one before."""
    longest: Duration = Duration("10m")
    """No wait is longer."""


@record
class StepPod:
    """The pod of a step. What is left out is as in `pipeline.defaults`, else as the cluster has it."""

    cpu: Quantity | None = None
    """Cores, asked for and at most."""
    memory: Quantity | None = None
    """Memory, asked for and at most."""
    gpus: int | None = None
    """Accelerators of this pod."""
    gpu_type: str | None = None
    """Their resource name, like `nvidia.com/gpu` (the default) or `amd.com/gpu`."""
    shared_memory: Quantity | None = None
    """Size of a memory-backed `/dev/shm`: loader workers of PyTorch need more than the 64 MiB of a container."""
    node_selector: Mapping[str, str] | None = None
    """Labels that the node has."""
    tolerations: tuple[Toleration, ...] | None = None
    """Taints that the pod tolerates."""
    timeout: Duration | None = None
    """The pod is ended after this."""
    retries: Retries | None = None
    """Tries after a failure."""
    cache: bool | None = None
    """Whether an equal earlier step's result is taken (default: yes). Steps that ask the registry are never cached."""


@record
class Mounted:
    """A Secret or ConfigMap for every step: as variables, as files, or both."""

    name: str
    """Its name in the namespace of the runs."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Key in it → variable."""
    mount: str | None = None
    """Folder in which each key is a file."""


@record
class Claim:
    """A PersistentVolumeClaim for every step."""

    name: str
    """Its name in the namespace of the runs."""
    mount: str
    """Where its files are."""


@record
class Pipeline:
    """The `pipeline` section."""

    image: str = ""
    """Image of every step, with its digest: `registry.example.com/modelyard/pipelines@sha256:…`."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets to pull it with."""
    store: str = ""
    """Where code archives go: `s3://bucket/prefix`, or a path on a mounted claim."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of every step, like `MLFLOW_TRACKING_URI` where Kubeflow does not set it, and `AWS_ENDPOINT_URL`."""
    secrets: tuple[Mounted, ...] = ()
    """Credentials: `MLFLOW_TRACKING_TOKEN`, `AWS_ACCESS_KEY_ID`; `MODELYARD_SIGNING_KEY_FILE` names the mounted key."""
    config_maps: tuple[Mounted, ...] = ()
    """Settings and certificates."""
    claims: tuple[Claim, ...] = ()
    """Volumes."""
    work: str = ""
    """Folder on a mounted claim where an interrupted training keeps its checkpoints for the next try."""
    defaults: StepPod = StepPod()
    """Of every step."""
    steps: Mapping[str, StepPod] = field(default_factory=dict)
    """Step (a stage's name) → what is different there."""
    train_on: Literal["here", "kubernetes"] = "here"
    """`here`: processes in the step's own pod. `kubernetes`: a training job beside it."""
    deployment: str = ""
    """`namespace/name` of the ModelDeployment whose rollout is awaited; not awaited when absent."""
    wait_for_promotion: Duration = Duration("0s")
    """With `promote: manual`: how long a run waits until a person moves the alias."""
    notify: str = ""
    """Address to which the end of a run is posted as JSON (`text`, as chat systems take it)."""
