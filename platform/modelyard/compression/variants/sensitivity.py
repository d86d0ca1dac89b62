"""Which layers suffer most from int8: each is quantized alone, and what that does to the outputs is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from modelyard.compression.variants.source import Source

QUANTIZED = (nn.Conv1d, nn.Conv2d, nn.Linear)
EXAMPLES = 8


def most_sensitive(source: Source, count: int) -> tuple[str, ...]:
    """Names of the `count` layers whose quantization changes the outputs most, the worst first.

    One pass over a few calibration examples for each layer.
    """
    layers = {name: layer for name, layer in source.module.named_modules() if isinstance(layer, QUANTIZED)}
    if not count:
        return ()
    tensors = tuple(tensor[:EXAMPLES] for tensor in source.tensors(source.calibration[0]))
    off = {}
    with torch.no_grad():
        wanted = source.module(*tensors)
        for name, layer in layers.items():
            with _quantized(layer):
                off[name] = float((source.module(*tensors) - wanted).float().norm())
    return tuple(sorted(off, key=lambda name: -off[name])[:count])


@contextmanager
def _quantized(layer: nn.Module) -> Iterator[None]:
    """The layer with its weights and what it takes rounded to 8 bits."""
    weight = layer.weight.data
    assert isinstance(weight, Tensor)
    scale = weight.flatten(1).abs().amax(1).clamp(min=1e-12).reshape(-1, *[1] * (weight.ndim - 1)) / 127
    hook = layer.register_forward_pre_hook(_rounded)
    layer.weight.data = torch.round(weight / scale) * scale
    try:
        yield
    finally:
        layer.weight.data = weight
        hook.remove()


def _rounded(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *others = inputs
    low, high = min(0.0, float(first.min())), max(0.0, float(first.max()))
    scale = (high - low) / 255 or 1.0
    return (torch.round(first / scale) * scale, *others)
