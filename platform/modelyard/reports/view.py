"""Everything that a report can show: one record of optional parts, gathered by whoever has them.

A part that is missing leaves its section with one line that says why; nothing here reads a disk or asks a server.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from modelyard.compression.report import CompressionReport
from modelyard.data.prepared import PreparedData
from modelyard.evaluation.gate import GateReport
from modelyard.evaluation.report import EvaluationReport
from modelyard.packaging.packed import Package
from modelyard.record import record
from modelyard.registry.port import Version
from modelyard.spec.rollout import ModelRollout
from modelyard.training.job import TrainedModel
from modelyard.verdict import Verdict

STAGES = ("prepare", "train", "evaluate", "gate", "compress", "package", "register", "promote", "rollout", "settle")


@record
class StageView:
    """What happened in one stage."""

    stage: str
    """One of `STAGES`."""
    seconds: float = 0.0
    cached: bool = False
    message: str = ""
    verdict: Verdict | None = None


@record
class RunView:
    """One run of one model."""

    model: str
    """The model's name."""
    run: str = ""
    """The run's id."""
    started_at: float = 0.0
    """Seconds since the epoch."""
    ended_at: float | None = None
    state: str = ""
    """Running, Succeeded, Refused, Inconclusive, Failed or Stopped."""
    message: str = ""
    """Why, where it did not succeed."""
    stages: tuple[StageView, ...] = ()
    data: PreparedData | None = None
    data_report: Mapping[str, Any] | None = None
    """`report.json` of the prepared folder (`modelyard.data.report.data_report`)."""
    trained: TrainedModel | None = None
    evaluation: EvaluationReport | None = None
    """Of the uncompressed model on the test split."""
    gates: GateReport | None = None
    compression: CompressionReport | None = None
    served: EvaluationReport | None = None
    """Of the chosen variant on the test split."""
    served_gates: GateReport | None = None
    """The rules once more, on the chosen variant."""
    package: Package | None = None
    version: Version | None = None
    alias: str = ""
    """The alias whose target is the champion."""
    champion: str | None = None
    """The version that the alias names now."""
    rollout: ModelRollout | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    """What → digest: code archive, data, weights, archive."""

    def stage(self, name: str) -> StageView | None:
        """What happened in a stage; None when it was not reached."""
        return next((stage for stage in self.stages if stage.stage == name), None)
