"""One update of the weights: forward, backward, clipping, step. Everything that can go wrong in it is named."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from modelyard.errors import StageFailed
from modelyard.model.recipe import Loaded, RecipeError
from modelyard.spec.train import Train
from modelyard.training import parallel
from modelyard.training.clip import clip
from modelyard.training.feed import Batch
from modelyard.training.optimizers import needs_closure

Precision = Callable[[], AbstractContextManager[Any]]


def precision_of(spec: Train, device: torch.device) -> Precision:
    """A maker of contexts in which forward and loss run."""
    return partial(torch.autocast, device.type, dtype=torch.bfloat16) if spec.precision == "bf16" else nullcontext


class Updater:
    """Updates the weights of one model. `model` is the wrapped one."""

    def __init__(
        self, model: nn.Module, loaded: Loaded, optimizer: torch.optim.Optimizer, spec: Train,
        *, world: int, device: torch.device,
    ) -> None:  # fmt: skip
        self._model = model
        self._loaded = loaded
        self._optimizer = optimizer
        self._spec = spec
        self._world = world
        self._precision = precision_of(spec, device)
        self._params = [p for p in model.parameters() if p.requires_grad]
        self._needs_closure = needs_closure(optimizer)

    def __call__(self, batches: Sequence[Batch], weights: Sequence[float], *, step: int, epoch: int) -> float:
        """One update from these batches, their gradients summed, each with its weight (0: not counted).

        Returns:
            The sum of the examples' losses in this process.

        Raises:
            StageFailed: the loss or the gradient's norm is NaN or Inf; weights were not touched.
            RecipeError: the recipe's model or loss does not run.
        """
        if not self._needs_closure:
            summed = self._gradients(batches, weights, step=step, epoch=epoch)
            self._optimizer.step()
            return summed
        sums: list[float] = []

        def closure() -> float:  # all processes must see one loss, or their line searches part
            sums.append(self._gradients(batches, weights, step=step, epoch=epoch))
            loss, examples = parallel.total([sums[-1], float(counted(batches, weights))], world=self._world)
            return loss / examples

        self._optimizer.step(closure)
        return sums[0]

    def _gradients(self, batches: Sequence[Batch], weights: Sequence[float], *, step: int, epoch: int) -> float:
        """Forward and backward of all batches; gives the sum of the examples' losses."""
        self._optimizer.zero_grad(set_to_none=True)
        summed = 0.0
        for at, (batch, weight) in enumerate(zip(batches, weights, strict=True)):
            last = at == len(batches) - 1
            with nullcontext() if last else parallel.without_sync(self._model):
                loss = forward(self._model, self._loaded, batch, self._spec, self._precision)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise _not_finite("The loss", value, [batch], step=step, epoch=epoch)
                backward(loss if weight == 1 else loss * weight, self._loaded)
            summed += value * counted([batch], [weight])
        if self._spec.clip_norm is not None:
            length = clip(self._params, self._spec.clip_norm)
            if not math.isfinite(length):
                raise _not_finite("The gradient's norm", length, batches, step=step, epoch=epoch)
        return summed


def counted(batches: Sequence[Batch], weights: Sequence[float]) -> int:
    """Examples of this process in an update."""
    return sum(len(batch["id"]) for batch, weight in zip(batches, weights, strict=True) if weight)


def forward(model: nn.Module, loaded: Loaded, batch: Batch, spec: Train, precision: Precision) -> Tensor:
    """The loss of one batch, in training mode.

    Raises:
        RecipeError: the model or the loss does not run; the message names the line.
    """
    with precision():
        return loaded.loss(loaded.call(model, batch), batch, label_smoothing=spec.label_smoothing)


def backward(loss: Tensor, loaded: Loaded) -> None:
    """Gradients of a loss.

    Raises:
        RecipeError: the loss does not depend on the model.
    """
    if not loss.requires_grad:
        raise RecipeError(
            f"{loaded.where}.loss returned a number that does not depend on the model's parameters",
            do="compute it from outputs, without .item(), .detach() or numpy",
        )
    loss.backward()  # type: ignore[no-untyped-call]


def _not_finite(what: str, value: float, batches: Sequence[Batch], *, step: int, epoch: int) -> StageFailed:
    ids = [str(one) for batch in batches for one in batch["id"]]
    told = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    return StageFailed(
        f"{what} became {value} at step {step} (epoch {epoch}), in the batch with examples {told}",
        do="look at these examples, lower train.optimizer.lr, or set train.clipNorm",
    )
