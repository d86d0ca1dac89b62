"""ONNX Runtime in int8: weights and activations quantized by ranges that calibration examples showed.

Static, as QDQ nodes: dynamic quantization, which measures ranges in each request, made a ResNet three times slower.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from modelyard.compression.variants import onnx_fp32
from modelyard.compression.variants.source import Source, Variant


def build(source: Source, path: Path) -> None:
    """Write the module as an int8 ONNX file, calibrated on `source.calibration`."""
    # they start threads on import, which forks must not carry
    from onnxruntime import quantization  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Hands out the calibration batches one by one."""

        def __init__(self) -> None:
            self.left = iter(source.calibration)

        def get_next(self) -> Mapping[str, object] | None:
            batch: Mapping[str, Tensor] | None = next(self.left, None)
            return None if batch is None else {name: batch[name].numpy() for name in source.inputs}

    logging.getLogger().setLevel(logging.ERROR)  # it advises steps that were taken
    fp32, folded = path.with_suffix(".fp32.onnx"), path.with_suffix(".folded.onnx")
    onnx_fp32.build(source, fp32)
    quant_pre_process(str(fp32), str(folded), skip_symbolic_shape=True)  # folds batch norms into convolutions
    quantization.quantize_static(
        str(folded), str(path), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    fp32.unlink()
    folded.unlink()


VARIANT = Variant(name="onnx-int8", kind="onnx", build=build)
