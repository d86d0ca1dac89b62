"""ModelProject: one file describes one model from data to rollout."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from modelyard.record import record
from modelyard.spec.data import Data
from modelyard.spec.deployment import Analysis, Rollback, Runtime, Strategy, Traffic
from modelyard.spec.gates import Compress, GateRule
from modelyard.spec.metadata import API_VERSION
from modelyard.spec.metrics import OwnMetric
from modelyard.spec.train import Code, Train


@record
class ProjectMetadata:
    """The model's name: its registered model, its deployment, its URL."""

    name: str


@record
class Deployment:
    """A ModelDeployment's spec without `model`, which the project knows."""

    runtime: Runtime = Runtime()
    replicas: int = 1
    strategy: Strategy = Strategy()
    analysis: Analysis = Analysis()
    traffic: Traffic = Traffic()
    rollback: Rollback = Rollback(alias="Restore")


@record
class ModelProject:
    """`modelyard.yaml`."""

    metadata: ProjectMetadata
    data: Data
    train: Train
    code: Code = Code()
    metrics: Mapping[str, OwnMetric] = field(default_factory=dict)
    """The recipe's own metrics that gates may name: name → which way is better."""
    gates: tuple[GateRule, ...] = ()
    compress: Compress = Compress()
    deployment: Deployment = Deployment()
    promote: Literal["automatic", "manual"] = "manual"
    alias: str = "champion"
    api_version: Literal["modelyard.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelProject"] = "ModelProject"
