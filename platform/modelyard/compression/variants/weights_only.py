"""Linear layers with int8 or int4 weights that become fp32 again in each call: a quarter or an eighth of the bytes.

torchao's own weight-only tensors were left out: a server would have to import torchao (20 s), and its int4 kernels for
CPUs take bf16 only. So the layers are plain tensor code, traced but not frozen, for freezing would unpack the weights.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from modelyard.compression.variants.source import Source, Variant
from modelyard.compression.variants.torchscript import check

GROUP = 32
"""Weights that share one scale in int4."""


class Int8Linear(nn.Module):
    """Symmetric int8, one scale for each output."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight_OI = layer.weight.detach()
        scale_O = weight_OI.abs().amax(1).clamp(min=1e-12) / 127
        self.weight_OI = nn.Buffer(torch.round(weight_OI / scale_O[:, None]).to(torch.int8))
        self.scale_O = nn.Buffer(scale_O)
        self.bias_O = nn.Buffer(torch.zeros(len(scale_O)) if layer.bias is None else layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O)."""
        return functional.linear(x, self.weight_OI.to(x.dtype)) * self.scale_O + self.bias_O


class Int4Linear(nn.Module):
    """Asymmetric int4, one scale and one offset for each group of inputs; two weights in a byte."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight_OI = layer.weight.detach()
        outputs, inputs = weight_OI.shape
        groups_OGK = functional.pad(weight_OI, (0, -inputs % GROUP)).reshape(outputs, -1, GROUP)
        low_OG1, high_OG1 = groups_OGK.amin(2, keepdim=True), groups_OGK.amax(2, keepdim=True)
        scale_OG1 = ((high_OG1 - low_OG1) / 15).clamp(min=1e-12)
        codes_OGK = torch.round((groups_OGK - low_OG1) / scale_OG1).to(torch.uint8)
        self.inputs = inputs
        self.pairs_OGH = nn.Buffer(codes_OGK[..., ::2] | codes_OGK[..., 1::2] << 4)
        self.scale_OG1, self.low_OG1 = nn.Buffer(scale_OG1), nn.Buffer(low_OG1)
        self.bias_O = nn.Buffer(torch.zeros(outputs) if layer.bias is None else layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(…, I) → (…, O)."""
        codes_OGK = torch.stack((self.pairs_OGH & 15, self.pairs_OGH >> 4), dim=3).flatten(2).to(x.dtype)
        weight_OI = (codes_OGK * self.scale_OG1 + self.low_OG1).flatten(1)[:, : self.inputs]
        return functional.linear(x, weight_OI) + self.bias_O


def build(source: Source, path: Path, *, layer: Callable[[nn.Linear], nn.Module]) -> None:
    """Write the module with other linear layers.

    Raises:
        ValueError: it has none, or the graph answers otherwise for another batch.
    """
    module = copy.deepcopy(source.module)
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear  # its subclasses have other owners, which look at their weights
    ]
    if not found:
        raise ValueError("the model has no linear layers")
    for parent, name, child in found:
        setattr(parent, name, layer(child))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.backends.mha.set_fastpath_enabled(False)  # it takes layers apart to reach their fp32 weights
        graph = torch.jit.trace(module.eval(), source.example, check_trace=False)  # type: ignore[no-untyped-call]
        check(module, graph, source)
    graph.save(str(path))


INT8 = Variant(name="int8-weights", kind="torchscript", build=partial(build, layer=Int8Linear), when="long")
INT4 = Variant(name="int4-weights", kind="torchscript", build=partial(build, layer=Int4Linear), when="long")
