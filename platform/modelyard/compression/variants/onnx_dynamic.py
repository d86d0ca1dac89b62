"""ONNX Runtime in int8 with ranges measured in each request: no calibration, good for transformers, slow for images."""

from pathlib import Path

from modelyard.compression.variants import onnx_fp32
from modelyard.compression.variants.source import Source, Variant


def build(source: Source, path: Path) -> None:
    """Write the module with int8 weights in its matrix products; convolutions stay as they are."""
    from onnxruntime import quantization  # noqa: PLC0415  starts threads on import

    fp32 = path.with_suffix(".fp32.onnx")
    onnx_fp32.build(source, fp32)
    with onnx_fp32.unadvised():
        quantization.quantize_dynamic(
            str(fp32), str(path), per_channel=True, op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
    fp32.unlink()


VARIANT = Variant(name="onnx-int8-dynamic", kind="onnx", build=build, when="long")
