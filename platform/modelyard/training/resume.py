"""Where a training stands, to the disk and back: everything that decides the next bit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.spec.codec import from_data, to_data
from modelyard.training import checkpoint, parallel, weights
from modelyard.training.files import identity
from modelyard.training.job import EpochCurve, TrainJob
from modelyard.training.schedules import Rates
from modelyard.training.stopping import Watch


@record
class Position:
    """How far a training is, in one process."""

    epoch: int = 0
    """Finished epochs."""
    batch: int = 0
    """Batches of the current epoch that are done."""
    step: int = 0
    """Updates."""
    loss_sum: float = 0.0
    """Over the examples of this epoch in this process."""
    examples: int = 0
    curves: tuple[EpochCurve, ...] = ()
    watch: Watch = Watch()

    def after_update(self, *, batches: int, loss: float, examples: int) -> "Position":
        """The position one update later."""
        return replace(
            self, batch=self.batch + batches, step=self.step + 1, loss_sum=self.loss_sum + loss,
            examples=self.examples + examples,
        )  # fmt: skip

    def after_epoch(self, curve: EpochCurve) -> "Position":
        """The position at the beginning of the next epoch."""
        return Position(epoch=self.epoch + 1, step=self.step, curves=(*self.curves, curve), watch=self.watch)


class Resumable:
    """Saves and restores one training."""

    def __init__(
        self, job: TrainJob, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, rates: Rates,
        *, rank: int, world: int, per_epoch: int,
    ) -> None:  # fmt: skip
        self._job, self._folder = job, folder
        self._model, self._optimizer, self._rates = model, optimizer, rates
        self._rank, self._world, self._per_epoch = rank, world, per_epoch
        self._frozen = weights.frozen_digest(model, job.train.freeze)

    def tensors(self) -> dict[str, Tensor]:
        """What training changes in the model."""
        return weights.checkpointed(self._model, self._job.train.freeze)

    def save(self, at: Position, best: Mapping[str, Tensor]) -> None:
        """Write a checkpoint; every process takes part.

        Raises:
            StageFailed: a weight is NaN or Inf, or no space is left.
        """
        parallel.same_buffers(self._model, world=self._world)
        own = self.tensors()
        weights.check_finite(own)
        tensors = {f"model.{name}": value for name, value in own.items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        structure = checkpoint.take_apart(self._optimizer.state_dict(), "optimizer", tensors)
        sums: list[Any] = [[at.loss_sum, at.examples]]
        if self._world > 1:
            sums = [None] * self._world
            dist.all_gather_object(sums, [at.loss_sum, at.examples])
        state = {
            "training": identity(self._job),
            "world": self._world,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "frozen": self._frozen,
            "batchSize": self._job.train.batch_size,
            "position": to_data(at),
            "sums": sums,
            "optimizer": structure,
        }
        keep = self._job.train.keep_checkpoints
        checkpoint.save(self._folder, tensors, state, step=at.step, keep=keep)

    def resume(self) -> tuple[Position, dict[str, Tensor]]:
        """Go to the newest checkpoint, or to the beginning; gives the position and the best weights so far.

        Raises:
            Tampered: the checkpoint's files are not what was written.
            BadInput: it belongs to another training, or to another number of processes or threads.
        """
        found = checkpoint.latest(self._folder)
        if found is None:
            return Position(), {}
        state = found.state
        self._check(state, found.folder)
        own = self.tensors()
        read = found.tensors(lambda name: self._template(name, own))
        with torch.no_grad():
            for name, value in own.items():
                if read[f"model.{name}"] is not value:
                    value.copy_(read[f"model.{name}"])
        self._optimizer.load_state_dict(checkpoint.put_together(state["optimizer"], read))
        at = from_data(Position, state["position"], where=str(found.folder))
        if state["world"] == self._world:
            loss_sum, examples = state["sums"][self._rank]
            at = replace(at, loss_sum=loss_sum, examples=examples)
        else:
            at = self._in_this_world(at, state)
        self._walk_rates(at)
        best = {name.removeprefix("best."): value for name, value in read.items() if name.startswith("best.")}
        return at, best

    def _template(self, name: str, own: Mapping[str, Tensor]) -> Tensor | None:
        """What a stored tensor is read into: the model's own, and what looks like a sharded parameter of it."""
        kind, _, rest = name.partition(".")
        if kind == "model":
            return own.get(rest)
        like: Tensor | None = None
        if kind == "best":
            like = own.get(rest)
        elif kind == "optimizer" and rest.startswith("state."):
            params = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            like = params[int(rest.split(".")[1])]
        return torch.empty_like(like) if like is not None and hasattr(like, "full_tensor") else None

    def _walk_rates(self, at: Position) -> None:
        per_epoch = -(-self._per_epoch // self._job.train.accumulate)
        walked = [per_epoch] * at.epoch
        losses = [c.train_loss if c.validation_loss is None else c.validation_loss for c in at.curves]
        self._rates.walk([*walked, at.step - sum(walked)], losses)

    def _in_this_world(self, at: Position, state: Mapping[str, Any]) -> Position:
        """The same place of the epoch's order for another number of processes, to the nearest whole update before."""
        examples = at.batch * state["world"] * state["batchSize"]
        whole = self._job.train.accumulate
        batch = min(examples // (self._world * self._job.train.batch_size), self._per_epoch - 1)
        return replace(at, batch=batch // whole * whole, loss_sum=0.0, examples=0)

    def _check(self, state: Mapping[str, Any], folder: Path) -> None:
        if state["training"] != identity(self._job):
            raise BadInput(f"{folder} belongs to another training", do="remove it or train into another folder")
        if state["frozen"] != self._frozen:
            raise BadInput(
                f"{folder} was made with other frozen weights", do="give train.initialize.from the same weights again"
            )
        world = state["world"], state["threads"]
        now = self._world, torch.get_num_threads()
        if world != now and not self._job.other_world:
            raise BadInput(
                f"{folder} was made by {world[0]} processes of {world[1]} threads, this run has {now[0]} of {now[1]}: "
                "the weights would not be the same bits",
                do="use the same numbers, set otherWorld, or remove the checkpoints",
            )
