"""TorchScript: traced and frozen, so that no Python runs between the layers; pays for small models."""

import warnings
from pathlib import Path

import torch
from torch import nn

from modelyard.compression.variants.source import Source, Variant


def traced(module: nn.Module, source: Source, *, tolerance: float = 1e-3) -> torch.jit.ScriptModule:
    """Trace `module` to a frozen graph that gives what it gives.

    `optimize_for_inference` was left out: it was no faster on any of the nets tried, and slower on some.

    Raises:
        ValueError: the graph answers differently for another batch, so the model is no pure function of tensors.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecated in torch 2.13, and still the fastest for small nets
        graph: torch.jit.ScriptModule = torch.jit.freeze(
            torch.jit.trace(module, source.example, check_trace=False)  # type: ignore[no-untyped-call]
        )
        check(module, graph, source, tolerance=tolerance)
    return graph


def check(module: nn.Module, graph: torch.jit.ScriptModule, source: Source, *, tolerance: float = 1e-3) -> None:
    """Check a graph against the module at other batches than the one that it was traced with.

    Raises:
        ValueError: it answers differently.
    """
    for batch in source.calibration[:2]:
        for size in (1, 3):
            tensors = tuple(tensor[:size] for tensor in source.tensors(batch))
            same(module(*tensors), graph(*tensors), tolerance=tolerance)


def same(wanted: object, got: object, *, tolerance: float = 1e-3) -> None:
    """Check that a program gives what the module gives, up to the rounding of other kernels.

    Raises:
        ValueError: it does not, or gives something else than one tensor.
    """
    if not isinstance(wanted, torch.Tensor) or not isinstance(got, torch.Tensor):
        raise ValueError(
            f"forward returns {type(wanted).__name__}, and programs are made of those that return a tensor"
        )
    if wanted.shape != got.shape:
        raise ValueError(f"the program returns {tuple(got.shape)} where the model returns {tuple(wanted.shape)}")
    scale = max(1.0, float(wanted.float().abs().max()))
    off = float((wanted.float() - got.float()).abs().max())
    if not off <= tolerance * scale:
        raise ValueError(
            f"its outputs are off by {off:.3g} (outputs reach {scale:.3g}): forward is no pure function of tensors"
        )


def build(source: Source, path: Path) -> None:
    """Write the traced module."""
    traced(source.module, source).save(str(path))


VARIANT = Variant(name="torchscript", kind="torchscript", build=build)
