"""Where a training stands, to the disk and back: everything that decides the next bit."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
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
from modelyard.training.layout import Layout
from modelyard.training.schedules import Rates
from modelyard.training.stopping import Watch
from modelyard.training.writing import Writer


@record
class Position:
    """How far a training is, in one process."""

    epoch: int = 0
    """Finished epochs."""
    taken: int = 0
    """Examples of the current epoch's order that were taken, by all processes together."""
    step: int = 0
    """Updates."""
    loss_sum: float = 0.0
    """Over the examples of this epoch in this process."""
    examples: int = 0
    curves: tuple[EpochCurve, ...] = ()
    watch: Watch = Watch()

    def after_update(self, *, taken: int, loss: float, examples: int) -> "Position":
        """The position one update later."""
        return replace(
            self, taken=taken, step=self.step + 1, loss_sum=self.loss_sum + loss,
            examples=self.examples + examples,
        )  # fmt: skip

    def after_epoch(self, curve: EpochCurve) -> "Position":
        """The position at the beginning of the next epoch."""
        return Position(epoch=self.epoch + 1, step=self.step, curves=(*self.curves, curve), watch=self.watch)


class Resumable:
    """Saves and restores one training."""

    def __init__(
        self, job: TrainJob, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, rates: Rates,
        *, layout: Layout, taken: Sequence[int],
    ) -> None:  # fmt: skip
        self._job, self._folder = job, folder
        self._model, self._optimizer, self._rates = model, optimizer, rates
        self._layout, self._taken = layout, taken
        spec = job.train
        self._writer = Writer(folder, keep=spec.keep_checkpoints, beside=spec.async_checkpoints)
        self._frozen = weights.frozen_digest(model, job.train.freeze)

    def tensors(self) -> dict[str, Tensor]:
        """What training changes in the model."""
        return weights.checkpointed(self._model, self._job.train.freeze)

    def save(self, at: Position, best: Mapping[str, Tensor]) -> None:
        """Write a checkpoint, or begin to; every process takes part.

        Raises:
            StageFailed: a weight is NaN or Inf, or no space is left.
        """
        parallel.same_buffers(self._model, world=self._layout.world)
        tensors = {f"model.{name}": value for name, value in self.tensors().items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        structure = checkpoint.take_apart(self._optimizer.state_dict(), "optimizer", tensors)
        sums: list[Any] = [[at.loss_sum, at.examples]]
        if self._layout.world > 1:
            sums = [None] * self._layout.world
            dist.all_gather_object(sums, [at.loss_sum, at.examples])
            sums = sums[:: self._layout.tensor]
        state = {
            "training": identity(self._job),
            "world": self._layout.world,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "frozen": self._frozen,
            "position": to_data(at),
            "sums": sums,
            "optimizer": structure,
        }
        self._writer.write(tensors, state, step=at.step)

    def finish(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            StageFailed: it could not be written.
        """
        self._writer.finish()

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
        sums = state["sums"]
        if state["world"] != self._layout.world:
            together = [sum(loss for loss, _ in sums), sum(seen for _, seen in sums)]
            sums = [together] + [[0.0, 0]] * (self._layout.data_world - 1)
            at = self._in_this_world(at)
        loss_sum, examples = sums[self._layout.data_rank]
        at = replace(at, loss_sum=loss_sum, examples=examples)
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
        walked = [len(self._taken)] * at.epoch
        losses = [c.train_loss if c.validation_loss is None else c.validation_loss for c in at.curves]
        self._rates.walk([*walked, at.step - sum(walked)], losses)

    def _in_this_world(self, at: Position) -> Position:
        """The same place of the epoch's order for another number of processes, to the nearest whole update before."""
        done = min(bisect_right(self._taken, at.taken), len(self._taken) - 1)
        return replace(at, taken=self._taken[done - 1] if done else 0)

    def _check(self, state: Mapping[str, Any], folder: Path) -> None:
        if state["training"] != identity(self._job):
            raise BadInput(f"{folder} belongs to another training", do="remove it or train into another folder")
        if state["frozen"] != self._frozen:
            raise BadInput(
                f"{folder} was made with other frozen weights", do="give train.initialize.from the same weights again"
            )
        world = state["world"], state["threads"]
        now = self._layout.world, torch.get_num_threads()
        free = self._job.other_world or self._job.train.global_batch_size
        if world != now and not free:
            raise BadInput(
                f"{folder} was made by {world[0]} processes of {world[1]} threads, this run has {now[0]} of {now[1]}: "
                "the weights would not be the same bits",
                do="use the same numbers, set train.globalBatchSize or otherWorld, or remove the checkpoints",
            )
