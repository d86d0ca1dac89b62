"""ONNX Runtime in int8: weights and activations quantized by ranges that calibration examples showed.

Static, as QDQ nodes: dynamic quantization, which measures ranges in each request, made a ResNet three times slower.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from modelyard.compression.search import CALIBRATE, KEEP
from modelyard.compression.variants import onnx_fp32
from modelyard.compression.variants.sensitivity import most_sensitive
from modelyard.compression.variants.source import Source, Variant


def build(source: Source, path: Path) -> None:
    """Write the module as an int8 ONNX file, calibrated on `source.calibration`.

    Raises:
        ValueError: a layer that shall stay in fp32 is not found in the graph.
    """
    # they start threads on import, which forks must not carry
    import onnx  # noqa: PLC0415
    from onnxruntime import quantization  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Hands out the calibration batches one by one."""

        def __init__(self) -> None:
            self.left = iter(source.calibration)

        def get_next(self) -> Mapping[str, object] | None:
            batch: Mapping[str, Tensor] | None = next(self.left, None)
            return None if batch is None else {name: batch[name].numpy() for name in source.inputs}

    fp32, folded = path.with_suffix(".fp32.onnx"), path.with_suffix(".folded.onnx")
    onnx_fp32.build(source, fp32)
    with onnx_fp32.unadvised():
        quant_pre_process(str(fp32), str(folded), skip_symbolic_shape=True)  # folds batch norms into convolutions
    graph = onnx.load(str(folded)).graph
    kept = [_node(graph, name) for name in most_sensitive(source, int(source.settings[KEEP]))]
    # between convolutions everything is int8, so that nothing is converted back and forth; a transformer's softmax,
    # norms and activations lose accuracy by it and gain no time
    images = any(node.op_type == "Conv" for node in graph.node)
    with onnx_fp32.unadvised():
        quantization.quantize_static(
            str(folded), str(path), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=kept, op_types_to_quantize=None if images else ["MatMul", "Gemm"],
        )  # fmt: skip
    fp32.unlink()
    folded.unlink()


def _node(graph: Any, layer: str) -> str:
    """The node of a graph that does the work of a layer.

    The exporter names nodes by the way to the layer: `/blocks/blocks.0/conv1/Conv` is `blocks.0.conv1`.

    Raises:
        ValueError: there is none.
    """
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and _path(node.name) == layer:
            return str(node.name)
    raise ValueError(f"the layer {layer}, which shall stay in fp32, is not in the exported graph by its name")


def _path(node: str) -> str:
    """The layer's path in a node's name.

    >>> _path("/blocks/blocks.0/conv1/Conv"), _path("/fc/MatMul_1")
    ('blocks.0.conv1', 'fc')
    """
    path: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path)


VARIANT = Variant(name="onnx-int8", kind="onnx", build=build, tunes=(CALIBRATE, KEEP))
