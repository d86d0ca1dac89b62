"""One model on several processes: DDP, FSDP2 (with tensor parallelism), or what the recipe's `parallelize` makes of it.

DDP sorts its buckets anew after the first iteration, which changes the order of sums: a resumed run would differ from
the unbroken one. So every start, fresh or resumed, runs throw-away iterations before the first that counts.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from modelyard.errors import BadInput
from modelyard.model.recipe import Loaded, RecipeError
from modelyard.spec.train import TrainStrategy
from modelyard.training.blocks import blocks, prepare_blocks
from modelyard.training.clip import local
from modelyard.training.layout import Layout

BACKWARDS_TO_THROW_AWAY = 2
"""The first finds the order in which gradients come, the second runs on the buckets of that order."""

Attempt = Callable[[nn.Module], None]
"""Forward and backward of one batch, which is thrown away."""


def spread(
    model: nn.Module, loaded: Loaded, strategy: TrainStrategy, layout: Layout, *, device: torch.device, attempt: Attempt
) -> nn.Module:
    """Wrap a model for all processes, and bring the wrapper to the state that it keeps from then on.

    Args:
        model: fresh, or with the weights to begin with; its weights are the same afterwards.
        loaded: the recipe.
        strategy: how processes share the model.
        layout: this process among all.
        device: where it computes.
        attempt: tries it.

    Raises:
        BadInput: the strategy does not suit model or recipe.
        RecipeError: the model or its loss does not run.
    """
    if (strategy.type == "Recipe" or layout.tensor > 1) and not loaded.defines("parallelize"):
        asked = "type is Recipe" if strategy.type == "Recipe" else f"tensorParallel is {layout.tensor}"
        raise BadInput(
            f"train.strategy.{asked}, but {loaded.where} has no parallelize",
            do="define parallelize(model, mesh) (docs/training.md has an example), or leave it to DDP or FSDP2 alone",
        )
    prepare_blocks(model, strategy)
    ways = {"DDP": _ddp, "FSDP2": _fsdp2, "Recipe": _by_recipe}
    try:
        return ways[strategy.type](model, loaded, layout, device, attempt)
    except torch._dynamo.exc.TorchDynamoException as error:
        told = str(error).strip().partition("\n")[0]
        raise RecipeError(
            f"train.strategy.compile: the model of {loaded.where} cannot be compiled whole: {told}",
            do="change what it names (TORCH_LOGS=graph_breaks shows the line), or leave compile out",
        ) from error


def _ddp(model: nn.Module, _loaded: Loaded, layout: Layout, device: torch.device, attempt: Attempt) -> nn.Module:
    model.to(device)
    with _as_before(model):
        attempt(model)
        unused = any(p.grad is None for p in model.parameters() if p.requires_grad)
        model.zero_grad(set_to_none=True)
        if layout.world == 1:
            return model
        seen = torch.tensor([float(unused)])
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        wrapped = DistributedDataParallel(
            model, find_unused_parameters=bool(seen.item()), forward_sync_buffers=_buffers_act(model),
            gradient_as_bucket_view=True,
        )  # fmt: skip
        for _ in range(BACKWARDS_TO_THROW_AWAY):
            attempt(wrapped)
        model.zero_grad(set_to_none=True)
        return wrapped


def _fsdp2(model: nn.Module, loaded: Loaded, layout: Layout, device: torch.device, attempt: Attempt) -> nn.Module:
    """Tensor parallelism first, by the recipe; then each block and the rest become shards of the data processes.

    The model is tried when it is spread: whole, it may not fit.
    """
    if layout.world == 1:
        return _ddp(model, loaded, layout, device, attempt)
    shape = layout.data_world, layout.tensor
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=("data", "tensor"))
    if layout.tensor > 1:
        model = loaded.parallelize(model, mesh["tensor"]) or model
    for part in (*blocks(model), model):
        fully_shard(part, mesh=mesh["data"])
    with _as_before(model):
        attempt(model)
        model.zero_grad(set_to_none=True)
    return model


def _by_recipe(model: nn.Module, loaded: Loaded, layout: Layout, device: torch.device, attempt: Attempt) -> nn.Module:
    with _as_before(model):
        attempt(model.to(device))
        model.zero_grad(set_to_none=True)
    made = loaded.parallelize(model, init_device_mesh(device.type, (layout.world,)))
    assert made is not None  # spread
    return made


@contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """Put weights and buffers back as they were."""
    before = {name: local(value).clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    yield
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name in before:
                local(value).copy_(before[name])


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
            if not isinstance(buffer, DTensor):  # such a one is kept the same, or in parts, by its layer
                dist.broadcast(buffer, src=0)


def total(values: list[float], *, world: int) -> list[float]:
    """Sums over all processes, in double precision."""
    if world == 1:
        return values
    summed = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(summed)
    return [float(value) for value in summed]
