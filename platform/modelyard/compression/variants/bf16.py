"""bfloat16: half the bytes; faster where the CPU has instructions for it, slower elsewhere."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from modelyard.compression.variants.source import Source, Variant
from modelyard.compression.variants.torchscript import traced


class _InBf16(nn.Module):
    """Takes and gives fp32, so that nobody around it must know."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).to(torch.bfloat16)

    def forward(self, *tensors: Tensor) -> Tensor:
        """As the module's own, in bf16 inside."""
        inside = [tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor for tensor in tensors]
        return self.module(*inside).to(torch.float32)  # type: ignore[no-any-return]


def build(source: Source, path: Path) -> None:
    """Write the module in bf16 as a frozen graph, its casts inside."""
    # between kernels that sum in another order, bf16 keeps two digits
    traced(_InBf16(source.module).eval(), source, tolerance=0.05).save(str(path))


VARIANT = Variant(name="bf16", kind="torchscript", build=build)
