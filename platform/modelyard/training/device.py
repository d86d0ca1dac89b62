"""Where tensors live: on the GPU of this process where there is one, else on the CPU."""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

CPU = torch.device("cpu")


def own_device() -> torch.device:
    """The GPU with this process's local rank, or the CPU where GPUs do not suffice for all processes of the machine."""
    local, processes = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if not torch.cuda.is_available() or torch.cuda.device_count() < processes:
        return CPU
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def backend(device: torch.device) -> str:
    """What carries collectives: gloo, and NCCL for what lives on GPUs."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch on the device; on the CPU it stays as it is."""
    if device.type == "cpu":
        return batch
    return {name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()}  # fmt: skip


def gloo_group() -> "dist.ProcessGroup | None":
    """A gloo group of its own, for what happens beside training; every process must ask. None where there is one."""
    return dist.new_group(backend="gloo") if dist.is_initialized() else None
