"""The length of a gradient whose parts lie on several meshes.

`torch.nn.utils.clip_grad_norm_` stacks the norms of all parameters, which raises where layers split by tensor
parallelism lie on another mesh than the rest (pytorch #180346). Here each process sums the squares of what it holds,
divided by how many processes hold the same numbers, and one exchange adds them up.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def clip(params: Sequence[nn.Parameter], longest: float) -> float:
    """Shorten the gradient, in place, to `longest` if it is longer.

    Returns:
        Its length before, the same in every process; NaN or Inf where an element is, and then nothing was changed.
    """
    grads = [p.grad for p in params if p.grad is not None]
    if not any(isinstance(grad, DTensor) for grad in grads):
        return float(nn.utils.clip_grad_norm_(params, longest))
    squares = torch.stack([torch.linalg.vector_norm(local(grad), dtype=torch.float64) ** 2 for grad in grads])
    copies = torch.tensor([_copies(grad) for grad in grads], dtype=torch.float64, device=squares.device)
    total = (squares / copies).sum()
    dist.all_reduce(total)
    length = float(total.sqrt())
    share = longest / (length + 1e-6)
    if share < 1:
        torch._foreach_mul_([local(grad) for grad in grads], share)
    return length


def local(value: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def _copies(grad: Tensor) -> int:
    """Processes that hold the same numbers: all but those along the dimensions over which the tensor is dealt out."""
    copies = dist.get_world_size()
    if isinstance(grad, DTensor):
        for dimension, placement in enumerate(grad.placements):
            if not placement.is_replicate():  # `is_shard` says no to the shards of shards that FSDP2 × TP makes
                copies //= grad.device_mesh.size(dimension)
    return copies
