"""Distillation: a smaller model of the same recipe learns what the trained one answers."""

from functools import partial
from pathlib import Path

from modelyard.compression.finetune import finetune
from modelyard.compression.variants import onnx_fp32, onnx_int8
from modelyard.compression.variants.source import Source, Variant, on

EPOCHS, STEPS = 60, 4000


def build(source: Source, path: Path, *, write: onnx_fp32.Write) -> None:
    """Write the student.

    Raises:
        ValueError: the project names none.
    """
    if source.training is None or source.training.student is None:
        raise ValueError("compress.student says nothing of a smaller model")
    student = source.training.student()
    write(on(source, finetune(student, source.module, source.training, epochs=EPOCHS, steps=STEPS)), path)


FP32 = Variant(name="distilled", kind="onnx", build=partial(build, write=onnx_fp32.build), student=True)
INT8 = Variant(name="distilled-int8", kind="onnx", build=partial(build, write=onnx_int8.build), student=True)
