"""What a user's pod template may say. What would break what we render is refused with the way out.

Rendering (`modelyard.rollout.cluster.render_pod`) and checking read the same table.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelyard.spec.deployment import PodTemplate
from modelyard.spec.problem import FieldPath, Problem, did_you_mean

SERVER: Final = "server"
"""The container that serves."""
FETCH: Final = "fetch"
"""The init container that fetches and verifies the archive."""
OUR_LABELS: Final = ("app.kubernetes.io/", "modelyard.dev/", "pod-template-hash")
OUR_MOUNTS: Final = ("/models", "/work", "/tmp", "/dev/shm", "/etc/modelyard")  # noqa: S108  paths in a pod
OUR_VOLUMES: Final = ("models", "work", "tmp", "shm", "config")
OUR_ENVIRONMENT: Final = ("MODELYARD_", "MLFLOW_TRACKING_", "AWS_", "TS_", "HOME", "PYTHON")

POD_FIELDS: Final = frozenset({
    "affinity", "dnsConfig", "dnsPolicy", "hostAliases", "imagePullSecrets", "nodeName", "nodeSelector", "overhead",
    "preemptionPolicy", "priorityClassName", "resourceClaims", "runtimeClassName", "schedulerName", "schedulingGates",
    "serviceAccountName", "tolerations", "topologySpreadConstraints",
})  # fmt: skip
"""Taken over as they are."""
MERGED: Final = frozenset({"containers", "initContainers", "volumes"})
"""Merged by name, as `kubectl patch` does."""
CONTAINER_FIELDS: Final = frozenset({
    "name", "image", "imagePullPolicy", "resources", "env", "envFrom", "volumeMounts", "volumeDevices",
})  # fmt: skip
"""What may be said of a container of ours."""
WHY: Final[Mapping[str, str]] = {
    "hostNetwork": "the server's management port must stay off the network",
    "hostPID": "a model must not see other processes",
    "hostIPC": "a model must not see other processes",
    "restartPolicy": "a Deployment restarts always",
    "securityContext": "pods run restricted (non-root, read-only root)",
    "terminationGracePeriodSeconds": "it follows from traffic.timeout",
    "activeDeadlineSeconds": "a server does not end by itself",
    "command": "process 1 is ours: it drains and says when it is ready",
    "args": "process 1 is ours: it drains and says when it is ready",
    "ports": "the server's port is ours",
    "readinessProbe": "ready means that a real prediction was answered",
    "livenessProbe": "it watches the server's process itself",
    "startupProbe": "ready means that a real prediction was answered",
    "lifecycle": "process 1 drains by itself",
}
"""Why a field of a pod, or of a container of ours, is refused."""


def check_pod_template(template: PodTemplate, at: FieldPath) -> Iterator[Problem]:
    """What is wrong with a pod template."""
    for name in template.metadata.labels:
        if name.startswith(OUR_LABELS):
            yield Problem(field=(*at, "metadata", "labels", name), message="is ours: selectors need it; use another")
    spec_at = (*at, "spec")
    for name, value in template.spec.items():
        if name in POD_FIELDS:
            continue
        if name not in MERGED:
            yield Problem(field=(*spec_at, name), message=_refusal(name, POD_FIELDS | MERGED))
        elif not _named(value):
            message = f"must be a list of objects, each with a name of its own; it is {value!r:.60}"
            yield Problem(field=(*spec_at, name), message=message)
    if all(_named(template.spec.get(name, [])) for name in MERGED):
        yield from _lists(template.spec, spec_at)


def _lists(spec: Mapping[str, Any], at: FieldPath) -> Iterator[Problem]:
    for kind, own in (("containers", SERVER), ("initContainers", FETCH)):
        for index, container in enumerate(spec.get(kind, ())):
            yield from _container(container, own, (*at, kind, str(index)))
    for index, volume in enumerate(spec.get("volumes", ())):
        here = (*at, "volumes", str(index))
        if volume["name"] in OUR_VOLUMES:
            yield Problem(field=here, message=f"{volume['name']} is a volume of ours; give it another name")
        if "hostPath" in volume:
            yield Problem(field=(*here, "hostPath"), message="is refused: pods run restricted; use another volume")


def _container(container: Mapping[str, Any], own: str, at: FieldPath) -> Iterator[Problem]:
    mine = container["name"] in (SERVER, FETCH)
    if mine and container["name"] != own:
        message = f"{container['name']} belongs into the other list; this one has {own}"
        yield Problem(field=(*at, "name"), message=message)
    if mine:
        for name in container.keys() - CONTAINER_FIELDS:
            yield Problem(field=(*at, name), message=_refusal(name, CONTAINER_FIELDS))
    elif (container.get("securityContext") or {}).get("privileged"):
        yield Problem(field=(*at, "securityContext", "privileged"), message="is refused: pods run restricted")
    elif not container.get("image"):
        message = f"{container['name']} has no image; the container that serves is named {own}"
        yield Problem(field=at, message=message)
    for variable in (container.get("env") or ()) if mine else ():
        if str(variable.get("name", "")).startswith(OUR_ENVIRONMENT):
            yield Problem(field=(*at, "env"), message=f"{variable['name']} is set by us; leave it out")
    for mount in (container.get("volumeMounts") or ()) if mine else ():
        path = str(mount.get("mountPath", "")).rstrip("/")
        if any(path == ours or path.startswith(f"{ours}/") or path == "" for ours in OUR_MOUNTS):
            yield Problem(field=(*at, "volumeMounts"), message=f"{path or '/'} is a place of ours; mount elsewhere")


def _refusal(name: str, known: frozenset[str]) -> str:
    return f"is refused: {WHY[name]}; leave it out" if name in WHY else f"is refused; {did_you_mean(name, known)}"


def _named(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not all(isinstance(one, Mapping) and one.get("name") for one in value):
        return False
    names = [one["name"] for one in value]
    return len(set(names)) == len(names)
