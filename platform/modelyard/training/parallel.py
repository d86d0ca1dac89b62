"""One model on several processes: DDP, or whatever the recipe's `parallelize` makes of it (FSDP2, for one).

DDP sorts its buckets anew after the first iteration, which changes the order of sums: a resumed run would differ from
the unbroken one. So every start, fresh or resumed, runs throw-away iterations before the first that counts.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from modelyard.model.recipe import Loaded

BACKWARDS_TO_THROW_AWAY = 2
"""The first finds the order in which gradients come, the second runs on the buckets of that order."""


def spread(model: nn.Module, loaded: Loaded, *, world: int, attempt: Callable[[nn.Module], None]) -> nn.Module:
    """Wrap a model for `world` processes, and bring the wrapper to the state that it keeps from then on.

    Args:
        model: fresh, or with the weights to begin with; its weights are the same afterwards.
        loaded: the recipe.
        world: number of processes.
        attempt: forward and backward of one batch, which is thrown away.

    Raises:
        RecipeError: the model or its loss does not run.
    """
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    attempt(model)
    unused = any(p.grad is None for p in model.parameters() if p.requires_grad)
    model.zero_grad(set_to_none=True)
    wrapped = model
    if loaded.defines("parallelize"):
        _restore(model, before)
        made = loaded.parallelize(model, init_device_mesh("cpu", (world,)))
        assert made is not None
        return made
    if world > 1:
        seen = torch.tensor([float(unused)])
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        wrapped = DistributedDataParallel(
            model, find_unused_parameters=bool(seen.item()), forward_sync_buffers=_buffers_act(model),
            gradient_as_bucket_view=True,
        )  # fmt: skip
        for _ in range(BACKWARDS_TO_THROW_AWAY):
            attempt(wrapped)
        model.zero_grad(set_to_none=True)
    _restore(model, before)
    return wrapped


def _restore(model: nn.Module, before: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name in before:
                value.copy_(before[name])


def _buffers_act(model: nn.Module) -> bool:
    """Whether buffers take part in training, so that processes must share them before each step.

    Batch norm's statistics do not: they are only read in evaluation, before which `same_buffers` is called.
    """
    return any(
        True
        for module in model.modules()
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or not module.training
        for _ in module.buffers(recurse=False)
    )


def inner(model: nn.Module) -> nn.Module:
    """The model inside DDP, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Let gradients pile up without being exchanged, until the last step of an update."""
    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    if hasattr(model, "set_requires_gradient_sync"):
        return _fsdp_without_sync(model)
    return nullcontext()


@contextmanager
def _fsdp_without_sync(model: nn.Module) -> Iterator[None]:
    model.set_requires_gradient_sync(False)  # type: ignore[operator]
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)  # type: ignore[operator]


def same_buffers(model: nn.Module, *, world: int) -> None:
    """Give all processes the first one's buffers: batch-norm statistics differ, and a checkpoint holds one of them."""
    if world > 1:
        for buffer in inner(model).buffers():
            dist.broadcast(buffer, src=0)


def total(values: list[float], *, world: int) -> list[float]:
    """Sums over all processes, in double precision."""
    if world == 1:
        return values
    summed = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(summed)
    return [float(value) for value in summed]
