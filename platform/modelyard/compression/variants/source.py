"""What every family gets to build from, and what it gives."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from modelyard.compression.finetune import Training
from modelyard.compression.search import USUAL
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
    settings: Mapping[str, float] = field(default_factory=lambda: USUAL)
    """See `modelyard.compression.search`."""
    training: Training | None = None
    """For families that train a little; None where there is no data to train on."""

    def tensors(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What `forward` takes of a batch."""
        return tuple(batch[name] for name in self.inputs)

    @property
    def example(self) -> tuple[Tensor, ...]:
        """A batch of two: a batch of one lets tracers take its size for a constant."""
        first = self.tensors(self.calibration[0])
        return tuple(tensor[:1].repeat(2, *[1] * (tensor.ndim - 1)) if len(tensor) < 2 else tensor[:2]
                     for tensor in first)  # fmt: skip


def on(source: Source, module: nn.Module) -> Source:
    """The same data for another module."""
    return replace(source, module=module.eval())


When = Literal["always", "long", "named"]


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
    when: When = "always"
    """Tried always, where the time budget is long, or only where it is named."""
    tunes: tuple[str, ...] = ()
    """Settings that the search may change."""
    student: bool = False
    """It is the project's smaller model, not this one."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line and without colours: tools wrap the cause in pages of advice."""
    ours = (ValueError, ModelyardError)
    while error.__cause__ is not None and not isinstance(error, ours):
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    said = lines[0][:300] if lines else ""
    return said if said and isinstance(error, ours) else f"{type(error).__name__}: {said}".removesuffix(": ")
