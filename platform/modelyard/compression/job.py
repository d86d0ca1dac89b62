"""What is asked of the bench: the line between the caller's process and its own."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from modelyard.record import record
from modelyard.spec.gates import Compress
from modelyard.spec.metrics import OwnMetric


@record
class Job:
    """What the bench is asked to do; times by the machine's monotonic clock."""

    model: str
    data: str
    spec: Compress
    names: tuple[str, ...]
    batch_size: int
    threads: int
    work: str
    out: str
    began: float
    declared: Mapping[str, OwnMetric] = field(default_factory=dict)
    """The recipe's own metrics: which way is better."""

    def folder(self, name: str) -> Path:
        """The model folder of a variant."""
        return Path(self.out) / name
