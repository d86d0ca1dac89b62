"""The pod of an arm: process 1 of ours over TorchServe, an init container that fetches and verifies. Pure.

The user's pod template is merged in by name, as `kubectl patch` would; `modelyard.spec.pod` says what may stand in it.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from modelyard.errors import BadInput
from modelyard.kube.metadata import name_of
from modelyard.kube.pods import RESTRICTED, RESTRICTED_POD, bucket_credentials, mount, secret
from modelyard.rollout.cluster.render import HTTP_PORT, PROBE_PORT, Settings, Side, labels
from modelyard.rollout.intents import EnsureArm
from modelyard.spec.deployment import PodTemplate
from modelyard.spec.pod import FETCH, MERGED, SERVER, check_pod_template
from modelyard.spec.problem import dotted
from modelyard.spec.registry import ModelRegistry

_ZONE, _NODE = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


def pod_template(side: Side, arm: EnsureArm, registry: ModelRegistry, settings: Settings) -> dict[str, Any]:
    """The template of an arm's pods, with the user's merged in.

    Raises:
        BadInput: the user's template says what would break ours; the message names the field.
    """
    wished = arm.serving.pod_template
    problem = next(check_pod_template(wished, ("spec", "podTemplate")), None)
    if problem is not None:
        raise BadInput(f"{dotted(problem.field)}: {problem.message}", do="change the ModelDeployment's podTemplate")
    ours = {
        "securityContext": dict(RESTRICTED_POD),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_s(arm, settings),
        "topologySpreadConstraints": [_spread(side, _ZONE), _spread(side, _NODE)],
        "initContainers": [_fetch(arm, registry, settings)],
        "containers": [_server(arm, settings)],
        "volumes": _volumes(side),
    }
    annotations = {"kubectl.kubernetes.io/default-container": SERVER, **wished.metadata.annotations}
    return {
        "metadata": {
            "labels": {**wished.metadata.labels, **labels(name_of(side.owner), side.arm, side.version)},
            "annotations": annotations,
        },
        "spec": merged(ours, wished),
    }


def grace_s(arm: EnsureArm, settings: Settings) -> int:
    """Seconds between SIGTERM and SIGKILL: routers forget the pod, the last request ends, Java ends."""
    return math.ceil(settings.endpoints_s + arm.serving.traffic.timeout.seconds + 10)


def merged(ours: Mapping[str, Any], wished: PodTemplate) -> dict[str, Any]:
    """Our pod's spec with what was wished: lists of named things by name, all else taken over."""
    spec = dict(ours)
    for name, value in wished.spec.items():
        spec[name] = _by_name(spec.get(name, ()), value) if name in MERGED else value
    if "serviceAccountName" in wished.spec:  # who names one wants what it may do
        del spec["automountServiceAccountToken"]
    return spec


def _by_name(ours: Iterable[Mapping[str, Any]], theirs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    there = {each["name"]: dict(each) for each in ours}
    for each in theirs:
        there[each["name"]] = _onto(there[each["name"]], each) if each["name"] in there else dict(each)
    return list(there.values())


def _onto(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """A container of ours with the user's fields. What they say of resources replaces ours, each of its parts."""
    result = dict(ours)
    for name, value in theirs.items():
        if name == "resources":
            result[name] = {**ours.get(name, {}), **value}
        elif name == "env":
            result[name] = _by_name(ours.get(name, ()), value)
        elif name in ("volumeMounts", "envFrom", "volumeDevices"):
            result[name] = [*ours.get(name, ()), *value]
        else:
            result[name] = value
    return result


def _server(arm: EnsureArm, settings: Settings) -> dict[str, Any]:
    workers = arm.serving.runtime.torch_serve.workers
    return {
        "name": SERVER,
        "image": settings.serving_image,
        "command": ["python", "-m", "modelyard.serving.supervisor"],
        "args": [
            "--config=/etc/modelyard/server.json", "--archive=/models/model.mar", "--work=/work",
            f"--port={HTTP_PORT}", f"--probe-port={PROBE_PORT}", f"--linger={settings.endpoints_s:g}",
            f"--grace={arm.serving.traffic.timeout.seconds:g}",
        ],
        "env": [{"name": "HOME", "value": "/work"}, {"name": "TMPDIR", "value": "/tmp"}],  # noqa: S108
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "probes", "containerPort": PROBE_PORT, "protocol": "TCP"},
        ],
        "resources": {"requests": {"cpu": str(workers), "memory": f"{512 + 512 * workers}Mi"}},
        # Ready answers at once from what process 1 found out with real predictions; a full queue changes nothing.
        "startupProbe": _probe("/readyz", every=1, failures=900),
        "readinessProbe": _probe("/readyz", every=2, failures=1),
        "livenessProbe": _probe("/healthz", every=10, failures=3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [
            mount("models", "/models", read_only=True), mount("config", "/etc/modelyard", read_only=True),
            mount("work", "/work"), mount("tmp", "/tmp"), mount("shm", "/dev/shm"),  # noqa: S108
        ],
    }  # fmt: skip


def _fetch(arm: EnsureArm, registry: ModelRegistry, settings: Settings) -> dict[str, Any]:
    source, verification = registry.spec, arm.serving.model.verification
    workspace = [f"--workspace={source.mlflow.workspace}"] if source.mlflow.workspace else []
    required = ["--require-signature"] if verification.signature == "Required" else []
    return {
        "name": FETCH,
        "image": settings.serving_image,
        "command": ["python", "-m", "modelyard.serving.fetch"],
        "args": [
            f"--tracking-uri={source.mlflow.tracking_uri}", f"--model={arm.serving.model.name}",
            f"--version={arm.version}", f"--digest={arm.digest}", "--out=/models/model.mar",
            *workspace, *required, *(f"--trust={key}" for key in verification.trusted_keys),
        ],
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "TMPDIR", "value": "/tmp"}, *_credentials(registry)],  # noqa: S108
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [mount("models", "/models"), mount("tmp", "/tmp")],  # noqa: S108
    }  # fmt: skip


def _credentials(registry: ModelRegistry) -> list[dict[str, Any]]:
    """Of the container that fetches only: the model's code sees none."""
    found: list[dict[str, Any]] = []
    mlflow, s3 = registry.spec.mlflow.credentials_secret_ref, registry.spec.artifacts.s3
    if mlflow is not None:
        for variable, key in (("USERNAME", "username"), ("PASSWORD", "password"), ("TOKEN", "token")):
            found.append(secret(f"MLFLOW_TRACKING_{variable}", mlflow.name, key, optional=True))
    if s3 is not None:
        for variable, value in (("AWS_ENDPOINT_URL", s3.endpoint), ("AWS_REGION", s3.region)):
            if value:
                found.append({"name": variable, "value": value})
        if s3.credentials_secret_ref is not None:
            found += bucket_credentials(s3.credentials_secret_ref.name)
    return found


def _volumes(side: Side) -> list[dict[str, Any]]:
    return [
        {"name": "models", "emptyDir": {}},
        {"name": "work", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        # the default of 64 MiB is too small for loaders of batches (kubeflow/pipelines #9893)
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        {"name": "config", "configMap": {"name": side.name}},
    ]


def _spread(side: Side, key: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": side.selector},
    }


def _probe(path: str, *, every: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "probes"},
        "periodSeconds": every,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
