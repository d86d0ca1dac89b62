"""One file per family; here only the table of them."""

from collections.abc import Mapping

from modelyard.compression.variants import aot, bf16, onnx_fp32, onnx_int8, torchscript
from modelyard.compression.variants.source import Source, Variant

VARIANTS: Mapping[str, Variant] = {
    module.VARIANT.name: module.VARIANT for module in (onnx_int8, onnx_fp32, torchscript, bf16, aot)
}
"""In the order in which they are tried: the most promising first, so that a short budget ends with something."""

__all__ = ["VARIANTS", "Source", "Variant"]
