"""What is trained, and what came of it: records that travel between the stage, its ranks and the disk."""

from collections.abc import Mapping
from dataclasses import field

from modelyard.record import record
from modelyard.spec.metrics import OwnMetric
from modelyard.spec.train import Train, TrainResources

WEIGHTS = "model.safetensors"
TRAINED = "trained.json"
CHECKPOINTS = "checkpoints"
MODEL = "model"


@record
class Tracking:
    """Where curves go."""

    uri: str
    """MLflow's tracking URI."""
    experiment: str
    run_id: str | None = None
    """A run that exists; a new one when absent."""
    run_name: str | None = None


@record
class Weights:
    """Weights to begin with, found and verified by whoever made the job."""

    path: str
    """A safetensors file."""
    digest: str | None = None
    """`sha256:…` that the file must have; unknown when absent."""


@record
class TrainJob:
    """Everything that decides what the weights will be, and where to read it."""

    train: Train
    data: str
    """Folder that `prepare` wrote."""
    data_fingerprint: str
    code: str
    """Code archive (`.tar`)."""
    code_digest: str
    tracking: Tracking | None = None
    weights: Weights | None = None
    """What `train.initialize.from` names, where that is no path but a registered version."""
    metrics: Mapping[str, OwnMetric] = field(default_factory=dict)
    """The project's own metrics: which way is better."""
    other_world: bool = False
    """Go on from a checkpoint of another number of processes or threads: the weights will not be the same bits."""


@record
class EpochCurve:
    """One point of the curves."""

    epoch: int
    """From 1."""
    train_loss: float
    """Mean over the epoch's examples, with augmentation and smoothing."""
    validation_loss: float | None
    """Mean over the validation split; None when the split is empty."""
    validation_metrics: Mapping[str, float] = field(default_factory=dict)
    lr: float
    """Learning rate of the epoch's last update."""
    seconds: float
    """Wall clock, validation included."""


@record
class Origin:
    """Weights that training began with."""

    source: str
    digest: str
    skipped: tuple[str, ...] = ()
    """Tensors that did not fit and kept their fresh values (only without `strict`)."""


@record
class TrainedModel:
    """What training gave. Files lie in the same folder."""

    weights: str = WEIGHTS
    digest: str
    """`sha256:…` of the weights."""
    epochs: tuple[EpochCurve, ...]
    best_epoch: int
    """Whose weights these are: the last epoch, but under early stopping the best one."""
    steps: int
    """Updates of the weights."""
    world_size: int
    threads: int
    """Of each process."""
    examples_per_second: float
    """All processes together, training steps only."""
    initialized_from: Origin | None = None
    run_id: str | None = None
    """The MLflow run that holds the curves."""
    untracked: str | None = None
    """Why curves did not reach MLflow; they are kept beside the weights and sent the next time."""
    restarts: int = 0
    """How often killed processes were started again from the last checkpoint."""


@record
class ClusterJob:
    """One training on a cluster: all that its objects are made of, by `pytorchjob` or by `trainjob`."""

    name: str
    """Of every object; it follows from `key`, so that whoever comes back finds the job instead of starting another."""
    namespace: str
    key: str
    """`sha256:…` of `job.json`, in which stand the digests of code, data and weights."""
    resources: TrainResources
    image: str
    version: str
    """Of Modelyard, which the image must have."""
    store: str
    """The artifact store: code, data, checkpoints without a claim, and what comes of it."""
    attempt: str = "1"
    """Tells this job from one of the same name that was there before: nodes count their starts by it."""
    gpu_label: str = "nvidia.com/gpu.product"
    """The label of nodes that has `resources.gpuType`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables of all containers: the bucket's endpoint and region."""
