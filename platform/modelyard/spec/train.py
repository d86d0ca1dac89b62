"""The `code` and `train` sections."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from modelyard.record import record
from modelyard.units import Percentage


@record
class Code:
    """The user's Python, minus what `.modelyardignore` names."""

    path: str = "."


@record
class RecipeRef:
    """A class in the user's file (`recipe.py:Digits`), or one of ours by name."""

    use: str
    with_: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class."""


@record
class Optimizer:
    """Any class of `torch.optim` by name, in any case (`adamw`, `SGD`)."""

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the class."""


@record
class Schedule:
    """`constant`, `cosine`, `linear`, or any class of `torch.optim.lr_scheduler` by name."""

    name: str = "constant"
    warmup: Percentage = Percentage("0%")
    """Share of all steps over which the rate rises from 0."""
    options: Mapping[str, Any] = field(default_factory=dict)


@record
class EarlyStopping:
    """Stop when the validation metric has not improved for `patience` epochs."""

    metric: str = "loss"
    patience: int = 3
    min_delta: float = 0.0


@record
class Initialize:
    """Fine-tune from weights that exist."""

    from_: str
    """A registered version (`models:/digits/3`) or a path to a safetensors file."""
    strict: bool = True


@record
class TrainResources:
    """Where training runs. On a laptop: processes over gloo."""

    nodes: int = 1
    processes_per_node: int = 1
    threads_per_process: int = 1
    loader_workers: int = 0


@record
class Train:
    """The `train` section."""

    recipe: RecipeRef
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    epochs: int = 10
    batch_size: int = 64
    """Examples for each process and step."""
    accumulate: int = 1
    """Steps whose gradients are summed before one update."""
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    strategy: Literal["ddp"] = "ddp"
    freeze: tuple[str, ...] = ()
    """Parameters, by prefix, that are neither optimized nor checkpointed."""
    initialize: Initialize | None = None
    early_stopping: EarlyStopping | None = None
    checkpoint_every: int = 0
    """Steps between checkpoints; 0 is once an epoch."""
    keep_checkpoints: int = 2
    seed: int = 0
    resources: TrainResources = TrainResources()
