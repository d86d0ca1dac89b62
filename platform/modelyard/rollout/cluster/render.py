"""What an arm is made of on a cluster: pure functions from records to plain objects.

Names: an arm's objects are called `<deployment>-<arm>`, cut to 63 characters with a hash where that is too long. Two
arms share no pod: selectors name deployment and arm (kubernetes/kubernetes #116898).
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from modelyard.kube import metadata
from modelyard.kube.metadata import ARM_LABEL, DEPLOYMENT_LABEL, fit, labels_of, name_of, namespace_of, owner_reference
from modelyard.kube.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HPA,
    NETWORK_POLICY,
    PDB,
    POD_MONITOR,
    SCALED_OBJECT,
    SERVICE,
    Kind,
    Object,
)
from modelyard.record import record
from modelyard.rollout.intents import EnsureArm
from modelyard.spec.codec import to_data
from modelyard.spec.deployment import Autoscaling, CPUMetric, GPUMetric, QueueLatencyMetric, ScalingMetric
from modelyard.spec.pod import SERVER

VERSION_ANNOTATION: Final = "modelyard.dev/version"
DIGEST_ANNOTATION: Final = "modelyard.dev/digest"
ROLLOUT_ANNOTATION: Final = "modelyard.dev/rollout"
REPLICAS_ANNOTATION: Final = "modelyard.dev/replicas"
"""Replicas that the loop asked for: under an autoscaler, the fewest."""
_GPU: Final = re.compile(r"[a-z0-9.-]+/(gpu|mig-[a-z0-9.]+)")
HTTP_PORT: Final = 8080
"""Predictions."""
PROBE_PORT: Final = 8081
"""Readiness, health and metrics of process 1."""


@record
class Settings:
    """What the operator renders with, beside the records."""

    serving_image: str
    """Of the server and of the container that fetches its archive; a pod template may name others."""
    endpoints_s: float = 5.0
    """How long process 1 goes on answering after SIGTERM, until every router knows that the pod is gone."""


@record
class Side:
    """One arm as it is to be rendered."""

    owner: Object
    """Its ModelDeployment, as the API gave it."""
    arm: str
    version: str
    digest: str

    @property
    def name(self) -> str:
        """Of all its objects."""
        return object_name(name_of(self.owner), self.arm)

    @property
    def selector(self) -> dict[str, str]:
        """Labels that only this arm's pods have."""
        return selector(name_of(self.owner), self.arm)


def side_of(owner: Object, arm: EnsureArm) -> Side:
    """The arm that an intent wants."""
    return Side(owner=owner, arm=arm.name, version=arm.version, digest=arm.digest)


def object_name(deployment: str, arm: str) -> str:
    """The name of an arm's objects.

    >>> object_name("digits", "a1b2c3d4e5"), len(object_name("d" * 63, "a1b2c3d4e5"))
    ('digits-a1b2c3d4e5', 63)
    """
    return f"{fit(deployment, limit=metadata.NAME_LIMIT - len(arm) - 1)}-{arm}"


def selector(deployment: str, arm: str) -> dict[str, str]:
    """Labels by which an arm's pods are found."""
    return {DEPLOYMENT_LABEL: fit(deployment), ARM_LABEL: arm}


def labels(deployment: str, arm: str = "", version: str = "") -> dict[str, str]:
    """Labels of an object, by Kubernetes' recommendation and for our selectors."""
    found = {
        metadata.NAME: "modelyard",
        metadata.INSTANCE: fit(deployment),
        metadata.COMPONENT: "server" if arm else "traffic",
        metadata.PART_OF: "modelyard",
        metadata.MANAGED_BY: "modelyard-operator",
        DEPLOYMENT_LABEL: fit(deployment),
    }
    return {**found, **({ARM_LABEL: arm} if arm else {}), **({metadata.VERSION: version} if version else {})}


def revision(side: Side, *, template: Mapping[str, Any], config: Mapping[str, str], number: int) -> Object:
    """The arm's rendered template, frozen: whoever renders otherwise later restarts no pod."""
    data = {"template": template, "config": config}
    return _object(side, CONTROLLER_REVISION, data=data, revision=max(1, number))


def config_map(side: Side, config: Mapping[str, str]) -> Object:
    """Settings of the server, immutable as the template is."""
    return _object(side, CONFIG_MAP, data=dict(config), immutable=True)


def config(arm: EnsureArm) -> dict[str, str]:
    """What process 1 reads: `server.json`."""
    told = {"name": arm.serving.model.name, "digest": arm.digest, "arm": arm.name, "version": arm.version}
    count = gpus(arm.serving.pod_template.spec)
    said = {**told, "runtime": to_data(arm.serving.runtime), **({"gpus": count} if count else {})}
    return {"server.json": json.dumps(said, sort_keys=True, indent=1)}


def gpus(pod: Mapping[str, Any]) -> int:
    """GPUs that the server's container may use: what it limits of any resource `<vendor>/gpu`, whole or in slices.

    >>> gpus({"containers": [{"name": "server", "resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "4"}}}]})
    2
    """
    mine: Mapping[str, Any] = next((each for each in pod.get("containers") or () if each.get("name") == SERVER), {})
    limits = (mine.get("resources") or {}).get("limits") or {}
    return sum(int(count) for name, count in limits.items() if _GPU.fullmatch(name))


def deployment(side: Side, *, template: Mapping[str, Any], rollout: str, replicas: int) -> Object:
    """The Deployment, without `spec.replicas`: that field belongs to who scales it."""
    annotations = {
        VERSION_ANNOTATION: side.version, DIGEST_ANNOTATION: side.digest,
        ROLLOUT_ANNOTATION: rollout, REPLICAS_ANNOTATION: str(replicas),
    }  # fmt: skip
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec = {
        "selector": {"matchLabels": side.selector},
        "revisionHistoryLimit": 1,
        "strategy": rolling,
        "template": template,
    }
    return _object(side, DEPLOYMENT, annotations=annotations, spec=spec)


def replicas(side: Side, count: int) -> Object:
    """Nothing but `spec.replicas`, to be applied by a field manager of its own."""
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": side.name, "namespace": namespace_of(side.owner)},
        "spec": {"replicas": count},
    }


def service(side: Side) -> Object:
    """The arm's address for routers."""
    port = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}
    return _object(side, SERVICE, spec={"type": "ClusterIP", "selector": side.selector, "ports": [port]})


def disruption_budget(side: Side) -> Object:
    """One pod at a time may be evicted; a budget of none would block the drain of a node for ever."""
    return _object(side, PDB, spec={"maxUnavailable": 1, "selector": {"matchLabels": side.selector}})


def network_policy(side: Side) -> Object:
    """Predictions and probes may come in, nothing else: the management port is no port of the pod at all."""
    ports = [{"protocol": "TCP", "port": HTTP_PORT}, {"protocol": "TCP", "port": PROBE_PORT}]
    spec = {
        "podSelector": {"matchLabels": side.selector},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": ports}],
    }
    return _object(side, NETWORK_POLICY, spec=spec)


def pod_monitor(side: Side) -> Object:
    """Where Prometheus finds the pods' own metrics (Prometheus operator)."""
    endpoint = {"port": "probes", "path": "/metrics", "interval": "15s"}
    spec = {
        "selector": {"matchLabels": side.selector},
        "podTargetLabels": [DEPLOYMENT_LABEL, ARM_LABEL],
        "podMetricsEndpoints": [endpoint],
    }
    return _object(side, POD_MONITOR, spec=spec)


def autoscaler(side: Side, scaling: Autoscaling, *, least: int) -> Object:
    """The object that scales the arm: an HPA, or KEDA's ScaledObject for a query of Prometheus; never both.

    Args:
        side: the arm.
        scaling: the wish.
        least: the fewest replicas: during a canary more than the wish's own.
    """
    most = max(scaling.max_replicas, least)
    if scaling.metric.type == "Prometheus":
        asked = scaling.metric.prometheus
        assert asked is not None, "checked with the spec"
        query = {
            "serverAddress": asked.server_address, "query": asked.query, "threshold": f"{asked.threshold.value:g}",
        }  # fmt: skip
        spec: dict[str, Any] = {
            "scaleTargetRef": {"name": side.name},
            "minReplicaCount": least,
            "maxReplicaCount": most,
            "triggers": [{"type": "prometheus", "metadata": query}],
        }
        return _object(side, SCALED_OBJECT, spec=spec)
    target = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": side.name}
    spec = {
        "scaleTargetRef": target,
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [_metric(scaling.metric)],
    }
    return _object(side, HPA, spec=spec)


def _metric(metric: ScalingMetric) -> dict[str, Any]:

    if metric.type == "CPU":
        target = {"type": "Utilization", "averageUtilization": (metric.cpu or CPUMetric()).average_utilization}
        # of our container only: a sidecar's idling must not hide its load
        source = {"name": "cpu", "container": SERVER, "target": target}
        return {"type": "ContainerResource", "containerResource": source}
    if metric.type == "GPU":
        gpu = metric.gpu or GPUMetric()
        return _of_pods(gpu.metric, str(gpu.average_utilization))
    queue = metric.queue_latency or QueueLatencyMetric()
    return _of_pods(queue.metric, f"{max(1, math.ceil(queue.average.seconds * 1000))}m")


def _of_pods(name: str, average: str) -> dict[str, Any]:
    target = {"type": "AverageValue", "averageValue": average}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}


def _object(side: Side, kind: Kind, *, annotations: Mapping[str, str] | None = None, **rest: Any) -> Object:
    deployment = name_of(side.owner)
    about: dict[str, Any] = {
        "name": side.name,
        "namespace": namespace_of(side.owner),
        "labels": labels(deployment, side.arm, side.version),
        "ownerReferences": [owner_reference(side.owner)],
    }
    if annotations:
        about["annotations"] = dict(annotations)
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, **rest}


def arm_of(thing: Object) -> str:
    """The arm that an object belongs to; empty where it is none's."""
    return labels_of(thing).get(ARM_LABEL, "")
