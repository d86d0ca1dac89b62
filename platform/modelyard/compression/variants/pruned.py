"""Structured pruning: whole channels go, then what is left learns from the original for a while."""

from functools import partial
from pathlib import Path

from modelyard.compression.finetune import finetune
from modelyard.compression.search import CUT
from modelyard.compression.variants import onnx_fp32, onnx_int8
from modelyard.compression.variants.channels import without_channels
from modelyard.compression.variants.source import Source, Variant, on

EPOCHS, STEPS = 12, 1500


def build(source: Source, path: Path, *, write: onnx_fp32.Write) -> None:
    """Write the smaller module.

    Raises:
        ValueError: no channels can be cut, or there is nothing to train on.
    """
    if source.training is None:
        raise ValueError("there is nothing to train on")
    smaller = without_channels(source.module, source.settings[CUT])
    write(on(source, finetune(smaller, source.module, source.training, epochs=EPOCHS, steps=STEPS)), path)


FP32 = Variant(name="pruned", kind="onnx", build=partial(build, write=onnx_fp32.build), when="long", tunes=(CUT,))
INT8 = Variant(name="pruned-int8", kind="onnx", build=partial(build, write=onnx_int8.build), when="long", tunes=(CUT,))
