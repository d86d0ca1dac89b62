"""ModelProject: one file describes one model from data to rollout."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from modelyard.record import record
from modelyard.spec.data import Data
from modelyard.spec.deployment import Analysis, Autoscaling, PodTemplate, Rollback, Runtime, Strategy, Traffic
from modelyard.spec.gates import Compress, GateRule
from modelyard.spec.metadata import API_VERSION
from modelyard.spec.metrics import OwnMetric
from modelyard.spec.pipeline import Pipeline
from modelyard.spec.train import Code, Train


@record
class ProjectMetadata:
    """The model's name: its registered model, its deployment, its URL."""

    name: str
    """A DNS label: lower-case letters, digits and `-`."""


@record
class ProjectRollback(Rollback):
    """What happens after a failed rollout. A project is its alias's one follower, so the alias is put back."""

    alias: Literal["Keep", "Restore"] = "Restore"
    """`Restore` puts the alias back if nobody moved it since."""
    retain: int = 3
    """Old attempts whose records are kept."""


@record
class Deployment:
    """A ModelDeployment's spec without `model`, which the project knows."""

    runtime: Runtime = Runtime()
    pod_template: PodTemplate = PodTemplate()
    replicas: int | None = None
    """Servers of the arm that has all traffic; 1 when absent. Not together with `autoscaling`."""
    autoscaling: Autoscaling | None = None
    """Servers by load."""
    strategy: Strategy = Strategy()
    analysis: Analysis = Analysis()
    traffic: Traffic = Traffic()
    rollback: ProjectRollback = ProjectRollback()


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
    """Rules that a version must pass; all of them."""
    compress: Compress = Compress()
    deployment: Deployment = Deployment()
    promote: Literal["automatic", "manual"] = "manual"
    """Whether a version that passed its gates becomes champion by itself."""
    alias: str = "champion"
    """The alias that the deployment follows."""
    pipeline: Pipeline = Pipeline()
    """The pods of the project's Kubeflow pipelines, for `modelyard pipeline`."""
    api_version: Literal["modelyard.dev/v1alpha1"] = API_VERSION
    """Version of this format."""
    kind: Literal["ModelProject"] = "ModelProject"
    """What this file describes."""


@record
class Rules:
    """A file of rules alone, for `modelyard gates replay`."""

    gates: tuple[GateRule, ...]
    """As in `modelyard.yaml`."""
    metrics: Mapping[str, OwnMetric] = field(default_factory=dict)
    """The recipe's own metrics that the rules may name, beside the project's."""
