"""The `code` and `train` sections."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from modelyard.record import record
from modelyard.units import Duration, Percentage


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
class TrainResources:
    """Where training runs. On a laptop: processes over gloo."""

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


@record
class Train:
    """The `train` section."""

    recipe: RecipeRef
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    epochs: int = 10
    """Passes over the training split."""
    batch_size: int = 64
    """Examples for each process and step."""
    accumulate: int = 1
    """Steps whose gradients are summed before one update."""
    clip_norm: float | None = None
    """Gradients longer than this are shortened to it."""
    label_smoothing: float = 0.0
    """Share of the label that is spread over all classes, from 0 to below 1."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast; weights stay fp32."""
    strategy: Literal["ddp"] = "ddp"
    """How ranks share the work."""
    freeze: tuple[str, ...] = ()
    """Parameters, by prefix, that are neither optimized nor checkpointed."""
    initialize: Initialize | None = None
    early_stopping: EarlyStopping | None = None
    checkpoint_every: int = 0
    """Steps between checkpoints; 0 is at the end of an epoch, at most every two seconds."""
    keep_checkpoints: int = 2
    """Older ones are removed."""
    seed: int = 0
    """Of initial weights, data order and augmentation."""
    resources: TrainResources = TrainResources()
