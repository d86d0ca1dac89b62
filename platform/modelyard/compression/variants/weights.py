"""Other weights in the same layers: sparse, clustered, clipped. Dense kernels are no faster for it; reports show so."""

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from modelyard.compression.variants import onnx_fp32, onnx_int8
from modelyard.compression.variants.sensitivity import QUANTIZED
from modelyard.compression.variants.source import Source, Variant, on

ZEROS = 0.5
CLUSTERS = 256
CLUSTERED_FROM = 1024
"""Weights of a tensor from which a table of 256 values pays."""
SPREAD = 4.0
"""Standard deviations of a channel's weights, beyond which they are cut off."""


def build_sparse(source: Source, path: Path) -> None:
    """Unstructured pruning: the half of each layer's weights that is smallest becomes zero, and is still multiplied."""
    module = copy.deepcopy(source.module)
    for weight in _weights(module):
        size = weight.abs()
        weight[size <= size.flatten().kthvalue(max(1, int(ZEROS * weight.numel()))).values] = 0
    onnx_fp32.build(on(source, module), path)


def build_clipped(source: Source, path: Path) -> None:
    """Outliers cut off, so that the steps of int8 become finer for all others; then int8."""
    module = copy.deepcopy(source.module)
    for weight in _weights(module):
        if weight[0].numel() > 1:
            flat = weight.flatten(1)
            limit = SPREAD * flat.std(1, keepdim=True)
            weight.copy_(flat.clamp(-limit, limit).reshape(weight.shape))
    onnx_int8.build(on(source, module), path)


def build_clustered(source: Source, path: Path) -> None:
    """Each large tensor as 256 values and one byte for each weight: a quarter of the file, the same kernels.

    The server's ONNX Runtime looks the weights up once, while it loads.

    Raises:
        ValueError: no tensor is large enough.
    """
    import onnx  # noqa: PLC0415  (only where it is used)
    from onnx import helper, numpy_helper  # noqa: PLC0415

    onnx_fp32.build(source, path)
    model = onnx.load(str(path))
    floats = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    large = [one for one in floats if numpy_helper.to_array(one).size >= CLUSTERED_FROM]
    if not large:
        raise ValueError(f"no tensor has {CLUSTERED_FROM} weights or more")
    nodes = []
    for one in large:
        values, codes = clusters(torch.from_numpy(numpy_helper.to_array(one).copy()))
        table, bytes_, wide = (f"{one.name}:{what}" for what in ("values", "codes", "wide"))
        model.graph.initializer.remove(one)
        model.graph.initializer.append(numpy_helper.from_array(values.numpy(), table))
        model.graph.initializer.append(numpy_helper.from_array(codes.numpy(), bytes_))
        nodes.append(helper.make_node("Cast", [bytes_], [wide], to=onnx.TensorProto.INT32))
        nodes.append(helper.make_node("Gather", [table, wide], [one.name]))
    others = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *others])
    onnx.save(model, str(path))


def clusters(weight: Tensor, count: int = CLUSTERS, rounds: int = 8) -> tuple[Tensor, Tensor]:
    """A tensor as a table of `count` values and, in its shape, their places: Lloyd's algorithm from the quantiles."""
    flat = weight.flatten().double()
    ordered = flat.sort().values
    values = ordered[torch.linspace(0, len(flat) - 1, count).round().long()]
    for _ in range(rounds):
        places = torch.bucketize(flat, (values[1:] + values[:-1]) / 2)
        sizes = torch.bincount(places, minlength=count)
        means = torch.bincount(places, flat, minlength=count) / sizes.clamp(min=1)
        values = torch.where(sizes > 0, means, values).sort().values
    places = torch.bucketize(flat, (values[1:] + values[:-1]) / 2)
    return values.to(weight.dtype), places.to(torch.uint8).reshape(weight.shape)


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """Weights of the layers that multiply, to be changed in place."""
    yield from (layer.weight.data for layer in module.modules() if isinstance(layer, QUANTIZED))


SPARSE = Variant(name="sparse", kind="onnx", build=build_sparse, when="named")
CLUSTERED = Variant(name="clustered", kind="onnx", build=build_clustered, when="named")
CLIPPED = Variant(name="clipped-int8", kind="onnx", build=build_clipped, when="long")
