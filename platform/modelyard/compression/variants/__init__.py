"""One file per family; here only the table of them."""

from collections.abc import Mapping

from modelyard.compression.variants import (
    aot,
    bf16,
    distilled,
    onnx_dynamic,
    onnx_fp32,
    onnx_int8,
    pruned,
    torchscript,
    weights,
    weights_only,
)
from modelyard.compression.variants.source import Source, Variant

VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        onnx_int8.VARIANT, onnx_fp32.VARIANT, torchscript.VARIANT, bf16.VARIANT,
        distilled.INT8, distilled.FP32, aot.INT8, onnx_dynamic.VARIANT, pruned.INT8, pruned.FP32, weights.CLIPPED,
        aot.DYNAMIC, aot.VARIANT, weights_only.INT8, weights_only.INT4, weights.SPARSE, weights.CLUSTERED,
    )
}  # fmt: skip
"""In the order in which they are tried: the most promising first, so that a short budget ends with something."""

__all__ = ["VARIANTS", "Source", "Variant"]
