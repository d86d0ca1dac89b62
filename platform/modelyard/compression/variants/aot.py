"""AOTInductor: compiled to machine code of this node by g++, which most servers' images do not have.

In fp32, and in int8 by torchao's PT2E quantization, whose patterns Inductor turns into oneDNN's int8 kernels
(https://docs.pytorch.org/ao/stable/pt2e_quantization/pt2e_quant_x86_inductor.html).
"""

import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from modelyard.compression.search import CALIBRATE, KEEP
from modelyard.compression.variants.sensitivity import most_sensitive
from modelyard.compression.variants.source import Source, Variant

LARGEST_BATCH = 4096


def build(source: Source, path: Path, *, prepare: Callable[[Source], Any] | None = None) -> None:
    """Write the compiled module; takes a minute of a whole core."""
    from torch._inductor import config  # noqa: PLC0415  (seconds)

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = _exported(prepare(source) if prepare else source.module, source)
        # one compiler in this process: workers of its own would outlive a build that is given up
        with config.patch({"freezing": prepare is not None, "compile_threads": 1}):
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def _exported(module: Any, source: Source) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    return torch.export.export(module, source.example, dynamic_shapes=tuple({0: batch} for _ in source.inputs))


def _quantized(source: Source, *, dynamic: bool) -> Any:
    """The module in int8: by ranges of the calibration, or by those of each request."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: PLC0415  (seconds)
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86  # noqa: PLC0415

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic))
    for name in most_sensitive(source, 0 if dynamic else int(source.settings[KEEP])):
        quantizer.set_module_name_qconfig(name, None)
    prepared = prepare_pt2e(_exported(source.module, source).module(), quantizer)
    for batch in source.calibration[:1] if dynamic else source.calibration:
        prepared(*source.tensors(batch))
    return convert_pt2e(prepared)


def missing() -> str | None:
    """Why it cannot be built here."""
    return None if shutil.which("g++") else "there is no g++ on this machine"


VARIANT = Variant(name="aot", kind="exported", build=build, missing=missing, when="long")
INT8 = Variant(
    name="aot-int8", kind="exported", build=partial(build, prepare=partial(_quantized, dynamic=False)),
    missing=missing, when="long", tunes=(CALIBRATE, KEEP),
)  # fmt: skip
DYNAMIC = Variant(
    name="aot-int8-dynamic", kind="exported", build=partial(build, prepare=partial(_quantized, dynamic=True)),
    missing=missing, when="long",
)  # fmt: skip
