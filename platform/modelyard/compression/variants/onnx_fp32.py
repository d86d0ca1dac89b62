"""ONNX Runtime in fp32: the same numbers, other kernels, no Python between the layers.

The exporter by tracing comes first: it takes half a second where the one by `torch.export` takes several and needs
onnxscript. It may take a value of the example for a constant, so what it wrote is run against the module at other
batches; where it differs, the slow exporter has its turn.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from modelyard.compression.variants.source import Source, Variant, first_line
from modelyard.compression.variants.torchscript import same

Write = Callable[[Source, Path], None]
"""What writes a module as a program."""


@contextlib.contextmanager
def unadvised() -> Iterator[None]:
    """ONNX Runtime's quantization advises, on the root logger, steps that were taken: not in here."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def build(source: Source, path: Path) -> None:
    """Write the module as an ONNX file with a free batch size.

    Raises:
        ValueError: neither exporter makes a file that gives what the module gives.
    """
    reasons = []
    for export in (_by_tracing, _by_exporting):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                export(source, path)
                _check(source, path)
        except Exception as error:  # exporters raise whatever they meet
            reasons.append(f"{export.__name__[1:].replace('_', ' ')}, {first_line(error)}")
        else:
            return
    raise ValueError("; ".join(reasons))


def _by_tracing(source: Source, path: Path) -> None:
    torch.onnx.export(
        source.module, source.example, str(path), dynamo=False, opset_version=17, input_names=list(source.inputs),
        output_names=["outputs"], dynamic_axes={name: {0: "batch"} for name in (*source.inputs, "outputs")},
    )  # fmt: skip


def _by_exporting(source: Source, path: Path) -> None:
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        source.module, source.example, str(path), dynamo=True, external_data=False, verbose=False,
        input_names=list(source.inputs), output_names=["outputs"],
        dynamic_shapes=tuple({0: batch} for _ in source.inputs),
    )  # fmt: skip


def _check(source: Source, path: Path) -> None:
    session = open_session(path)
    for batch in source.calibration[:2]:
        for size in (1, 3):
            tensors = tuple(tensor[:size] for tensor in source.tensors(batch))
            feed = {name: tensor.numpy() for name, tensor in zip(source.inputs, tensors, strict=True)}
            same(source.module(*tensors), torch.from_numpy(session.run(None, feed)[0]))


def open_session(path: Path) -> Any:
    """An ONNX Runtime session of one thread, quiet."""
    import onnxruntime  # noqa: PLC0415  starts a thread on import, which forks must not carry

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


VARIANT = Variant(name="onnx", kind="onnx", build=build)
