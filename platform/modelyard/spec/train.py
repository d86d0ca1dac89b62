"""The `code` and `train` sections."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from modelyard.record import record
from modelyard.units import Duration, Percentage, Quantity


@record
class Code:
    """The user's Python, minus what `.modelyardignore` names."""

    path: str = "."
    """Folder that holds it, seen from this file."""


@record
class RecipeRef:
    """A class in the user's file (`recipe.py:Digits`), or one of ours by name."""

    use: str
    """`file.py:Class`, or a name."""
    with_: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class."""


@record
class Optimizer:
    """Any class of `torch.optim` by name, in any case (`adamw`, `SGD`)."""

    name: str = "adamw"
    """The class."""
    lr: float = 1e-3
    """Learning rate."""
    weight_decay: float = 0.0
    """As the class understands it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the class."""


@record
class Schedule:
    """`constant`, `cosine`, `linear`, or any class of `torch.optim.lr_scheduler` by name."""

    name: str = "constant"
    """How the learning rate goes on after the warm-up."""
    warmup: Percentage = Percentage("0%")
    """Share of all steps over which the rate rises from 0."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class."""


@record
class EarlyStopping:
    """Stop when the validation metric has not improved for `patience` epochs."""

    metric: str = "loss"
    """Of the validation split."""
    patience: int = 3
    """Epochs to wait for something better."""
    min_delta: float = 0.0
    """How much better counts."""


@record
class Initialize:
    """Fine-tune from weights that exist."""

    from_: str
    """A registered version (`models:/digits/3`) or a path to a safetensors file."""
    strict: bool = True
    """Refuse weights that do not fit by name and shape."""


@record
class Elastic:
    """Cluster: how many nodes a training may have while it runs. Another number gives other bits."""

    min_nodes: int
    """It goes on while so many are there."""
    max_nodes: int
    """It takes no more."""


@record
class Checkpoints:
    """Cluster: where checkpoints are kept while a training runs."""

    claim: str | None = None
    """A PersistentVolumeClaim that all nodes can write to; without one they go to the artifact store."""


@record
class TrainResources:
    """Where training runs. On a laptop: processes over gloo; the fields of a cluster act there only."""

    nodes: int = 1
    """Machines; 1 on a laptop."""
    processes_per_node: int = 1
    """Ranks on each."""
    threads_per_process: int = 1
    """Threads of each rank; part of what makes a run exact."""
    loader_workers: int = 0
    """Processes that read data for each rank; 0 reads in the rank itself."""
    restarts: int = 2
    """How often killed ranks are started again from the last checkpoint."""
    stall_timeout: Duration = Duration("10m")
    """Without progress for so long, training is ended and the line it hangs in is named."""
    image: str | None = None
    """Cluster: the image that trains; it has this version of Modelyard in it, and the packages that your code needs."""
    cpu: Quantity | None = None
    """Cluster: cores of each node's pod."""
    memory: Quantity | None = None
    """Cluster: memory of each node's pod; more than that ends it."""
    shm: Quantity | None = None
    """Cluster: at most so much shared memory; without a limit, what the pod's memory holds."""
    gpus: int = 0
    """Cluster: GPUs of each node's pod, one for each process; 0 trains on CPUs over gloo."""
    gpu_type: str | None = None
    """Cluster: the GPU by the name that nodes have in a label, like `NVIDIA-H100-80GB-HBM3`."""
    queue: str | None = None
    """Cluster: Kueue's LocalQueue: all nodes begin at once or none does."""
    spot: bool = False
    """Cluster: only nodes that may be taken away; training goes on from the last checkpoint."""
    elastic: Elastic | None = None
    """Cluster: go on with fewer nodes when some are lost, with more when some come."""
    deadline: Duration | None = None
    """Cluster: after so long the training is ended, also while nobody watches it."""
    ttl: Duration = Duration("1d")
    """Cluster: how long the ended job can still be looked at; its log is kept with the artifacts."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Cluster: labels that nodes must have."""
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """Cluster: taints of nodes that do not matter, as a pod has them."""
    topology: str | None = None
    """Cluster: a label of nodes; pods are placed where it has the same value if that can be, like
    `topology.kubernetes.io/zone`."""
    checkpoints: Checkpoints = Checkpoints()
    """Cluster: where checkpoints are kept; several nodes need a claim."""
    service_account: str | None = None
    """Cluster: the ServiceAccount of the pods, as where it has the rights on the bucket."""
    secret: str | None = None
    """Cluster: a Secret with the bucket's `accessKeyID` and `secretAccessKey`; none where the ServiceAccount does."""


@record
class TrainStrategy:
    """How processes share one model. Only `FSDP2` makes a model fit that is larger than what one process can hold."""

    type: Literal["DDP", "FSDP2", "Recipe"] = "DDP"
    """`DDP`: each holds the whole model. `FSDP2`: each holds a shard. `Recipe`: what its `parallelize` makes of it."""
    tensor_parallel: int = 1
    """With FSDP2: processes that share each layer, as the recipe's `parallelize(model, mesh)` says."""
    activation_checkpointing: bool = False
    """Compute the blocks (members of an `nn.ModuleList`) again in the backward pass: less memory, more time."""
    compile: bool = False
    """`torch.compile` of each block, or of the model where there are none; what it cannot compile whole is refused."""


@record
class Train:
    """The `train` section."""

    recipe: RecipeRef
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    epochs: int = 10
    """Passes over the training split."""
    batch_size: int = 64
    """Examples for each process and step; with `globalBatchSize` the most that a process takes at once."""
    accumulate: int = 1
    """Steps whose gradients are summed before one update."""
    global_batch_size: int | None = None
    """Examples of one update, all processes and steps together: any number of processes sees the same updates."""
    clip_norm: float | None = None
    """Gradients longer than this are shortened to it."""
    label_smoothing: float = 0.0
    """Share of the label that is spread over all classes, from 0 to below 1."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast; weights stay fp32."""
    strategy: TrainStrategy = TrainStrategy()
    freeze: tuple[str, ...] = ()
    """Parameters, by prefix, that are neither optimized nor checkpointed."""
    initialize: Initialize | None = None
    early_stopping: EarlyStopping | None = None
    checkpoint_every: int = 0
    """Steps between checkpoints; 0 is at the end of an epoch, at most every two seconds."""
    keep_checkpoints: int = 2
    """Older ones are removed."""
    async_checkpoints: bool = False
    """Go on while a checkpoint is written; takes the memory of one more model and optimizer."""
    seed: int = 0
    """Of initial weights, data order and augmentation."""
    resources: TrainResources = TrainResources()
