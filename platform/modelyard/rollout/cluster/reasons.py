"""Why an arm cannot become ready, read from its Deployment and pods: whose fault it is, and the reason in words. Pure.

The canary's own fault (its bytes, its code, its memory) ends the attempt at once and marks the version. What is the
cluster's (no room, no image, a quota, a registry that is away) is waited for, and marks nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelyard.kube.metadata import name_of
from modelyard.kube.port import Object
from modelyard.spec.pod import FETCH, SERVER
from modelyard.verdict import Outcome, Reason, Verdict

UNPULLABLE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
UNMADE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"})


def failure_of(deployment: Object, pods: Sequence[Object]) -> Verdict | None:
    """Why an arm is not ready, the worst first; None: nothing is known to be wrong."""
    found = [*_of_deployment(deployment), *(verdict for pod in pods for verdict in _of_pod(pod))]
    failed = [verdict for verdict in found if verdict.outcome is Outcome.FAILED]
    return next(iter(failed or found), None)


def _of_deployment(deployment: Object) -> Iterator[Verdict]:
    for condition in deployment.get("status", {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            yield _waiting(f"pods cannot be made: {condition.get('message', condition.get('reason', ''))}")


def _of_pod(pod: Object) -> Iterator[Verdict]:
    status, name = pod.get("status") or {}, name_of(pod)
    if "deletionTimestamp" in pod["metadata"] or _is_ready(status):
        return
    if status.get("reason") in ("Evicted", "NodeLost", "Shutdown", "Terminated"):
        yield _waiting(f"{name}: {status['reason']}: {status.get('message', '')}")
        return
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _waiting(f"{name} cannot be scheduled: {condition.get('message', condition.get('reason', ''))}")
    for container in status.get("initContainerStatuses") or ():
        yield from _of_container(name, container, fetches=container["name"] == FETCH)
    for container in status.get("containerStatuses") or ():
        yield from _of_container(name, container, fetches=False)


def _of_container(pod: str, container: Mapping[str, Any], *, fetches: bool) -> Iterator[Verdict]:
    waiting = (container.get("state") or {}).get("waiting") or {}
    why, said = waiting.get("reason", ""), waiting.get("message", "")
    if why in UNPULLABLE:
        yield _waiting(f"{pod}: image {container.get('image', '')} cannot be pulled: {why} {said}".rstrip())
    elif why in UNMADE:
        yield _waiting(f"{pod}: {why}: {said}")
    ended = _last_end(container)
    if ended is None or not (ended.get("exitCode") or why == "CrashLoopBackOff"):
        return
    if fetches:
        yield _of_fetch(pod, ended)
    elif ended.get("reason") == "OOMKilled":
        limit = "its memory limit"
        yield _failed(f"{pod}: {container['name']} was killed for using more than {limit} (OOMKilled)")
    elif container["name"] == SERVER:
        yield _of_server(pod, container, ended)


def _of_fetch(pod: str, ended: Mapping[str, Any]) -> Verdict:
    told = _told(ended)
    reason = told.get("reason")
    message = f"{pod}: {told.get('message') or ended.get('message') or 'fetch ended with ' + str(ended['exitCode'])}"
    if reason in (Reason.DIGEST_MISMATCH.value, Reason.ARTIFACT_MISSING.value):
        return Verdict(outcome=Outcome.FAILED, reason=Reason(reason), message=message)
    return _waiting(message)


def _of_server(pod: str, container: Mapping[str, Any], ended: Mapping[str, Any]) -> Verdict:
    """Process 1 ended: by itself, with its reason, or kubelet ended it because its probes failed."""
    told = _told(ended)
    message = told.get("message") or str(ended.get("message") or "").strip()[-500:]
    code, times = ended["exitCode"], container.get("restartCount", 0)
    said = f"{pod}: the server ended with {code} ({times} restarts)" + (f": {message}" if message else "")
    if told.get("reason") == Reason.DIGEST_MISMATCH.value:
        return Verdict(outcome=Outcome.FAILED, reason=Reason.DIGEST_MISMATCH, message=said)
    return _failed(said)


def _last_end(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How the container's last run ended, where it has not become ready since."""
    if container.get("ready"):
        return None
    for state in ("state", "lastState"):
        ended: Mapping[str, Any] | None = (container.get(state) or {}).get("terminated")
        if ended is not None:
            return ended
    return None


def _told(ended: Mapping[str, Any]) -> Mapping[str, str]:
    """What our own processes leave in the termination log."""
    try:
        told = json.loads(ended.get("message") or "")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in status.get("conditions") or ())


def _failed(message: str) -> Verdict:
    return Verdict(outcome=Outcome.FAILED, reason=Reason.CANARY_UNAVAILABLE, message=message)


def _waiting(message: str) -> Verdict:
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.CANARY_UNAVAILABLE, message=message)
