"""What every family gets to build from, and what it gives."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from modelyard.errors import ModelyardError
from modelyard.model.predictor import Kind


@dataclass(frozen=True, kw_only=True)
class Source:
    """The uncompressed model and data to calibrate on."""

    module: nn.Module
    """In eval mode, fp32, on the CPU; a family that changes weights copies it first."""
    inputs: tuple[str, ...]
    """Columns of a batch that `forward` takes, in its order."""
    calibration: tuple[Mapping[str, Tensor], ...]
    """Batches of the *train* split, never of the test split."""

    def tensors(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What `forward` takes of a batch."""
        return tuple(batch[name] for name in self.inputs)

    @property
    def example(self) -> tuple[Tensor, ...]:
        """A batch of two: a batch of one lets tracers take its size for a constant."""
        first = self.tensors(self.calibration[0])
        return tuple(tensor[:1].repeat(2, *[1] * (tensor.ndim - 1)) if len(tensor) < 2 else tensor[:2]
                     for tensor in first)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A family: how it is called and made."""

    name: str
    kind: Kind
    """How the server loads it; see `modelyard.model.predictor`."""
    build: Callable[[Source, Path], None]
    """Writes the program to the path; raises what it likes, the reason is recorded."""
    missing: Callable[[], str | None] = lambda: None
    """Why it cannot be built on this machine, or None."""
    slow: bool = False
    """Takes so long that it is tried only where it is named."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line and without colours: tools wrap the cause in pages of advice."""
    ours = (ValueError, ModelyardError)
    while error.__cause__ is not None and not isinstance(error, ours):
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    said = lines[0][:300] if lines else ""
    return said if said and isinstance(error, ours) else f"{type(error).__name__}: {said}".removesuffix(": ")
