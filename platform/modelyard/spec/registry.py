"""ModelRegistry: where a cluster's versions come from."""

from typing import Literal

from modelyard.record import record
from modelyard.spec.deployment import Condition
from modelyard.spec.metadata import API_VERSION, Metadata
from modelyard.units import Duration


@record
class SecretRef:
    """A Secret in the same namespace."""

    name: str
    """Its name."""


@record
class MLflow:
    """An MLflow tracking server."""

    tracking_uri: str
    """`https://…`"""
    workspace: str = ""
    """MLflow's workspace; its default one when empty."""
    credentials_secret_ref: SecretRef | None = None
    """Keys `username` and `password`, or `token`."""


@record
class S3:
    """Where MLflow keeps artifacts, when they are fetched from there directly."""

    endpoint: str = ""
    """`https://…`; AWS when empty."""
    region: str = ""
    """Like `eu-central-1`; the endpoint's own when empty."""
    credentials_secret_ref: SecretRef | None = None
    """Keys `accessKeyID` and `secretAccessKey`."""


@record
class Artifacts:
    """Where archives are fetched from; through MLflow when absent."""

    s3: S3 | None = None
    """An S3 bucket behind MLflow."""


@record
class ModelRegistrySpec:
    """A union by `type`."""

    mlflow: MLflow
    """With `type: MLflow`."""
    type: Literal["MLflow"] = "MLflow"
    """Which registry."""
    artifacts: Artifacts = Artifacts()
    """Where archives are fetched from."""
    poll_interval: Duration = Duration("5s")
    """How often aliases are read."""


@record
class RegistryStatus:
    """What was observed."""

    observed_generation: int = 0
    """The generation of the spec that this status was observed for."""
    conditions: tuple[Condition, ...] = ()
    """Ready: the registry answers, and the credentials are good."""


@record
class ModelRegistry:
    """A registry that deployments of its namespace may name."""

    metadata: Metadata
    spec: ModelRegistrySpec
    status: RegistryStatus = RegistryStatus()
    api_version: Literal["modelyard.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelRegistry"] = "ModelRegistry"
