"""What compression found: records that the stage stores and that gates, package and report read."""

from collections.abc import Mapping
from dataclasses import field

from modelyard.record import record

REFERENCE = "fp32"
"""The uncompressed model: what every variant is compared with, and what serves when none is better."""


@record
class Estimate:
    """A number and the interval that the data leaves for it."""

    value: float
    low: float
    high: float


@record
class VariantResult:
    """One variant. Numbers are None where it failed before they were known."""

    name: str
    kind: str = ""
    """`eager`, `torchscript`, `onnx` or `exported`: how the server loads it."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """Those that the search changed: see `modelyard.compression.search`."""
    folder: str = ""
    """Its model folder, relative to the report's."""
    digest: str = ""
    bytes: int | None = None
    """Size of its program and weights on disk."""
    p50_ms: float | None = None
    """Latency of a lone request (a batch of one), in milliseconds."""
    p99_ms: float | None = None
    throughput: float | None = None
    """Examples a second at the serving batch size."""
    peak_memory_mb: float | None = None
    """Of its own process, interpreter included, after loading it and a few full batches."""
    load_s: float | None = None
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    """On the validation split."""
    drop: Mapping[str, Estimate] = field(default_factory=dict)
    """How much worse than the reference on the same examples; `high` is the bound that the budget is held against."""
    ratio: Estimate | None = None
    """Its cost under the objective over the reference's, in the same rounds: below 1 is better."""
    cosine: float | None = None
    """Agreement of its outputs with the reference's on the first examples: 1 is the same."""
    within_budget: bool = False
    failure: str | None = None
    """Why it could not be built, evaluated or timed."""
    note: str = ""
    """Why it was chosen or not."""


@record
class CompressionReport:
    """All variants, and the one that will serve."""

    reference: str
    variants: tuple[VariantResult, ...]
    """The reference first."""
    chosen: str
    reason: str
    node_type: str
    """Where it was timed: ranking differs between machines."""
    objective: str
    max_drop: Mapping[str, float]
    confidence: float
    batch_size: int
    threads: int
    examples: int
    """Of the validation split."""
    seconds: float

    def variant(self, name: str) -> VariantResult:
        """The result of one variant."""
        return next(result for result in self.variants if result.name == name)
