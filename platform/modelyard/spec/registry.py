"""ModelRegistry: where a cluster's versions come from."""

from typing import Literal

from modelyard.record import record
from modelyard.spec.metadata import API_VERSION, Metadata
from modelyard.units import Duration


@record
class SecretRef:
    """A Secret in the same namespace."""

    name: str


@record
class MLflow:
    """An MLflow tracking server."""

    tracking_uri: str
    """`https://…`"""
    workspace: str = ""
    credentials_secret_ref: SecretRef | None = None
    """Keys `username` and `password`, or `token`."""


@record
class S3:
    """Where MLflow keeps artifacts, when they are fetched from there directly."""

    endpoint: str = ""
    region: str = ""
    credentials_secret_ref: SecretRef | None = None
    """Keys `accessKeyID` and `secretAccessKey`."""


@record
class Artifacts:
    """Where archives are fetched from; through MLflow when absent."""

    s3: S3 | None = None


@record
class ModelRegistrySpec:
    """A union by `type`."""

    mlflow: MLflow
    type: Literal["MLflow"] = "MLflow"
    artifacts: Artifacts = Artifacts()
    poll_interval: Duration = Duration("5s")
    """How often aliases are read."""


@record
class ModelRegistry:
    """A registry that deployments of its namespace may name."""

    metadata: Metadata
    spec: ModelRegistrySpec
    api_version: Literal["modelyard.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelRegistry"] = "ModelRegistry"
