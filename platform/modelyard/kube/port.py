"""What Modelyard asks of a Kubernetes API: seven verbs over plain objects (dicts as in JSON).

`modelyard.kube.client` implements it over the wire, `tests/fakes/cluster.py` in memory; both pass one contract
test, `tests/contract/test_kube.py`. https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from modelyard.errors import BadInput

Object = Mapping[str, Any]
"""A Kubernetes object: `apiVersion`, `kind`, `metadata` and the rest, as JSON has it."""

Subresource = Literal["", "status"]

Labels = Mapping[str, str | None] | None
"""Labels that objects must have, with these values; None: with any value."""


@dataclass(frozen=True)
class Kind:
    """Where objects of one kind live."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core one."""
        return self.api_version.rpartition("/")[0]


MODEL_REGISTRY: Final = Kind("modelyard.dev/v1alpha1", "ModelRegistry", "modelregistries")
MODEL_DEPLOYMENT: Final = Kind("modelyard.dev/v1alpha1", "ModelDeployment", "modeldeployments")
MODEL_ROLLOUT: Final = Kind("modelyard.dev/v1alpha1", "ModelRollout", "modelrollouts")

CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
EVENT: Final = Kind("v1", "Event", "events")
NAMESPACE: Final = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
POD: Final = Kind("v1", "Pod", "pods")
PERSISTENT_VOLUME_CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SECRET: Final = Kind("v1", "Secret", "secrets")
SERVICE: Final = Kind("v1", "Service", "services")
SERVICE_ACCOUNT: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
CONTROLLER_REVISION: Final = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET: Final = Kind("apps/v1", "ReplicaSet", "replicasets")
HPA: Final = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
ENDPOINT_SLICE: Final = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
PDB: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
CRD: Final = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)

# kinds of others, that a cluster may lack
GATEWAY: Final = Kind("gateway.networking.k8s.io/v1", "Gateway", "gateways")
HTTP_ROUTE: Final = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
BACKEND_TRAFFIC_POLICY: Final = Kind("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy", "backendtrafficpolicies")
POD_MONITOR: Final = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")
SCALED_OBJECT: Final = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
PYTORCH_JOB: Final = Kind("kubeflow.org/v1", "PyTorchJob", "pytorchjobs")
TRAIN_JOB: Final = Kind("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs")
TRAINING_RUNTIME: Final = Kind("trainer.kubeflow.org/v1alpha1", "TrainingRuntime", "trainingruntimes")

KINDS: Final[tuple[Kind, ...]] = tuple(found for found in list(globals().values()) if isinstance(found, Kind))
_BY_NAME: Final = {(each.api_version, each.kind): each for each in KINDS}


def kind_of(thing: Object) -> Kind:
    """The kind of an object, by its `apiVersion` and `kind`.

    Raises:
        BadInput: it is none of `KINDS`.
    """
    named = (str(thing.get("apiVersion", "")), str(thing.get("kind", "")))
    if named not in _BY_NAME:
        raise BadInput(f"{' '.join(named).strip() or 'an object without kind'} is no kind that is known here",
                       do="add it to modelyard.kube.port")  # fmt: skip
    return _BY_NAME[named]


@dataclass(frozen=True)
class Listing:
    """What a list found, and the resource version to watch from."""

    items: tuple[Object, ...]
    resource_version: str


@dataclass(frozen=True)
class Change:
    """One event of a watch. A `BOOKMARK` carries nothing but a newer `metadata.resourceVersion`."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class Kube(Protocol):
    """A Kubernetes API. Safe to use from many threads.

    Each verb may also raise:
        Unavailable: no answer in time, throttled (429) or an error of the server (5xx). A write may or may not have
            happened. `retry_after` has the seconds that the server asked for.
        Forbidden: RBAC does not allow it; the message names verb and resource.
        NotInstalled: the cluster does not know the kind, as when its CRD is missing.
        Refused: the server finds the request invalid (400, 422) or an admission rule or a quota refuses it (403);
            the message is the server's. Repeating it is in vain.

    Objects come back as fresh copies: a caller may change them.
    """

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None."""

    def list(self, kind: Kind, *, namespace: str = "", labels: Labels = None) -> Listing:
        """All objects of a namespace (empty: of all) that have these labels, as of one resource version."""

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        deadline_s: float,
        namespace: str = "",
        labels: Labels = None,
    ) -> Iterator[Change]:
        """What changes after `resource_version`, in order; ends by itself after `deadline_s`.

        An object whose labels stop matching is `DELETED`; one that begins to match is `ADDED`.

        Raises:
            Expired: `resource_version` is too old: list again.
        """

    def create(self, thing: Object, *, manager: str) -> Object:
        """Make an object; a `status` in it is ignored where status is a subresource.

        Raises:
            Conflict: there is one of this name.
        """

    def apply(self, thing: Object, *, manager: str, force: bool = False, subresource: Subresource = "") -> Object:
        """Server-side apply: make the object or its given fields so, and remove what was given last time only.

        With `metadata.resourceVersion` or `metadata.uid` in it, only that very object is changed. What is already so is
        not written: the resource version stays.

        Raises:
            Conflict: it is not at that resource version; or `subresource` is asked for and it is gone.
            Owned: without `force`, another manager owns a field and has it otherwise.
        """

    def replace(self, thing: Object, *, manager: str, subresource: Subresource = "") -> Object:
        """Write a whole object as it was read and changed, at its `metadata.resourceVersion`.

        Without subresource, a change of `status` is ignored; with it, every other change.

        Raises:
            Conflict: it is not at that resource version any more, or it is gone.
        """

    def delete(
        self, kind: Kind, namespace: str, name: str, *, resource_version: str | None = None, uid: str | None = None
    ) -> None:
        """Delete it, and in the background what it owns; nothing when it is gone.

        Raises:
            Conflict: it is not at that resource version, or it is another object of the same name.
        """


class PodLogs(Protocol):
    """What containers write. Raises as `Kube` does."""

    def log(
        self, namespace: str, pod: str, *, container: str, since: str = "", deadline_s: float = 0.0
    ) -> Iterator[str] | None:
        """The lines of a container, oldest first, each with its time before it: `2026-01-02T03:04:05.678901234Z text`.

        Ends when the container has ended; while it runs, new lines come until none came for `deadline_s`.

        Args:
            namespace: the pod's.
            pod: its name.
            container: its name.
            since: a time as lines have it: nothing that was written in a second before that one's.
            deadline_s: how long to wait for the next line; 0 gives what is there.

        Returns:
            None when the pod or its log is gone, and while the container has not begun; before the pod has a node, no
            line.
        """


class Cluster(Kube, PodLogs, Protocol):
    """A Kubernetes API, and the logs of its pods."""
