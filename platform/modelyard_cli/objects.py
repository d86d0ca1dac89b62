"""A project as objects for a cluster: what `modelyard export` writes. Pure."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelyard.errors import BadInput
from modelyard.runs.rollout import deployment_spec
from modelyard.spec.codec import to_data
from modelyard.spec.deployment import ModelDeployment, RegistryRef
from modelyard.spec.metadata import Metadata
from modelyard.spec.registry import MLflow, ModelRegistry, ModelRegistrySpec, SecretRef

if TYPE_CHECKING:
    from modelyard.spec.project import ModelProject


def objects(
    project: "ModelProject", *, tracking_uri: str, namespace: str, registry: str, secret: str | None
) -> list[dict[str, Any]]:
    """The ModelRegistry and the ModelDeployment of a project, as `kubectl apply` takes them.

    Raises:
        BadInput: the URI is none that a pod could reach.
    """
    uri = urlsplit(tracking_uri)
    if uri.scheme not in ("http", "https") or not uri.hostname:
        raise BadInput(f"--tracking-uri {tracking_uri} is no http address", do="give the one that pods use")
    if uri.hostname in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):  # noqa: S104 - refused, not bound
        raise BadInput(f"--tracking-uri {tracking_uri} is a pod itself", do="give the address that pods use")
    spec = deployment_spec(project)
    # The port is where a laptop's router listens, the Prometheus what a laptop asks; a cluster has its own.
    on_cluster = replace(
        spec,
        model=replace(spec.model, registry_ref=RegistryRef(name=registry)),
        traffic=replace(spec.traffic, port=None),
        analysis=replace(spec.analysis, prometheus=None),
    )
    credentials = SecretRef(name=secret) if secret else None
    source = ModelRegistry(
        metadata=Metadata(name=registry, namespace=namespace),
        spec=ModelRegistrySpec(mlflow=MLflow(tracking_uri=tracking_uri, credentials_secret_ref=credentials)),
    )
    wish = ModelDeployment(metadata=Metadata(name=project.metadata.name, namespace=namespace), spec=on_cluster)
    return [_applied(source), _applied(wish)]


def _applied(thing: ModelRegistry | ModelDeployment) -> dict[str, Any]:
    """Without what the cluster writes itself."""
    data = to_data(thing)
    return {
        "apiVersion": data["apiVersion"],
        "kind": data["kind"],
        "metadata": {"name": thing.metadata.name, "namespace": thing.metadata.namespace},
        "spec": data["spec"],
    }
