"""AOTInductor: compiled to machine code of this node by g++, which most servers' images do not have."""

import shutil
import warnings
from pathlib import Path

import torch

from modelyard.compression.variants.source import Source, Variant


def build(source: Source, path: Path) -> None:
    """Write the compiled module; takes a minute of a whole core."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch", min=1, max=4096)
        program = torch.export.export(
            source.module, source.example, dynamic_shapes=tuple({0: batch} for _ in source.inputs)
        )
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def missing() -> str | None:
    """Why it cannot be built here."""
    return None if shutil.which("g++") else "there is no g++ on this machine"


VARIANT = Variant(name="aot", kind="exported", build=build, missing=missing, slow=True)
