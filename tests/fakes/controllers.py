"""What lives beside an API server, for `FakeKube`: Deployments get pods, pods become ready, a gateway accepts routes.

Each `settle` goes once over everything, as controllers do; what they do goes unseen by the hooks of a test.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.fakes.cluster import FakeKube

from modelyard.errors import Conflict
from modelyard.kube.metadata import matches, name_of, namespace_of, resource_version_of
from modelyard.kube.port import DEPLOYMENT, HPA, HTTP_ROUTE, POD, Kind, Object
from modelyard.rollout.cluster.render import DIGEST_ANNOTATION

GATEWAY = {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"}
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
CRASH = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


class Controllers:
    """Deployment controller, kubelet and gateway."""

    def __init__(self, kube: FakeKube) -> None:
        self.kube = kube
        self.broken: dict[str, str] = {}
        """Digests whose pods never become ready: `crash`, `oom`, `pull`, `unschedulable`, or `` for without a word."""
        self.gateway = True
        """Whether routes are accepted."""
        self._made = 0

    def settle(self) -> None:
        """One turn of everything."""
        with self.unseen():
            for each in self.kube.peek(DEPLOYMENT):
                self._pods(each)
            for each in self.kube.peek(DEPLOYMENT):
                self._deployment_status(each)
            for each in self.kube.peek(HTTP_ROUTE):
                self._route_status(each)

    def crash(self, labels: Mapping[str, str]) -> None:
        """The pods of these labels die; they come back with `settle`."""
        with self.unseen():
            for each in self.kube.peek(POD):
                if matches(each, labels):
                    self.kube.delete(POD, namespace_of(each), name_of(each))
            for each in self.kube.peek(DEPLOYMENT):
                self._deployment_status(each)

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """What is done meanwhile is no call of the operator's."""
        before, after, calls = self.kube.before, self.kube.after, len(self.kube.calls)
        self.kube.before = self.kube.after = lambda _call: None
        try:
            yield
        finally:
            self.kube.before, self.kube.after = before, after
            del self.kube.calls[calls:]

    # inside

    def _pods(self, deployment: Object) -> None:
        spec = deployment["spec"]
        template, wanted = spec["template"], int(spec.get("replicas", 1))
        mine = [each for each in self.kube.peek(POD) if _owned_by(each, deployment)]
        for each in mine[wanted:]:
            self.kube.delete(POD, namespace_of(each), name_of(each))
        for _ in range(wanted - len(mine)):
            self._made += 1
            self.kube.create(
                {
                    "apiVersion": POD.api_version,
                    "kind": POD.kind,
                    "metadata": {
                        "name": f"{name_of(deployment)[:50]}-{self._made:05d}",
                        "namespace": namespace_of(deployment),
                        "labels": template["metadata"]["labels"],
                        "ownerReferences": [_reference(deployment)],
                    },
                    "spec": template["spec"],
                },
                manager="kubelet",
            )
        digest = (deployment["metadata"].get("annotations") or {}).get(DIGEST_ANNOTATION, "")
        for each in self.kube.peek(POD):
            if _owned_by(each, deployment):
                self._status(POD, each, _pod_status(each, self.broken.get(digest), int(name_of(each)[-5:])))

    def _deployment_status(self, deployment: Object) -> None:
        mine = [each for each in self.kube.peek(POD) if _owned_by(each, deployment)]
        ready = sum(is_ready(each) for each in mine)
        counts = {"replicas": len(mine), "updatedReplicas": len(mine), "readyReplicas": ready}
        status: dict[str, Any] = {
            "observedGeneration": deployment["metadata"]["generation"],
            **{name: count for name, count in counts.items() if count},
            **({"availableReplicas": ready} if ready else {}),
        }
        self._status(DEPLOYMENT, deployment, status)

    def _route_status(self, route: Object) -> None:
        if not self.gateway:
            return
        generation = route["metadata"]["generation"]
        said = [
            {"type": name, "status": "True", "reason": name, "message": "", "observedGeneration": generation}
            for name in ("Accepted", "ResolvedRefs")
        ]
        parents = [{"parentRef": each, **GATEWAY, "conditions": said} for each in route["spec"].get("parentRefs", ())]
        self._status(HTTP_ROUTE, route, {"parents": parents})

    def _status(self, kind: Kind, thing: Object, status: Mapping[str, Any]) -> None:
        if thing.get("status") == status:
            return
        assert resource_version_of(thing)
        try:
            self.kube.replace({**thing, "status": status}, manager="controllers", subresource="status")
        except Conflict:  # it was changed or deleted in this very turn: the next one sees it
            assert kind in (POD, DEPLOYMENT, HTTP_ROUTE, HPA)


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _pod_status(pod: Object, broken: str | None, number: int) -> dict[str, Any]:
    names = [each["name"] for each in pod["spec"].get("containers", ({"name": "server"},))]
    if broken == "unschedulable":
        said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes fit"}
        return {"phase": "Pending", "conditions": [said]}
    well = broken is None
    state: dict[str, Any] = {"running": {}}
    last: dict[str, Any] = {}
    if broken == "pull":
        state = PULL
    elif broken == "crash":
        state, last = CRASH, {"terminated": {"reason": "Error", "exitCode": 1}}
    elif broken == "oom":
        state, last = CRASH, OOM
    containers = [
        {"name": name, "ready": well, "restartCount": 0 if well else 3, "state": state, "lastState": last, "image": ""}
        for name in names
    ]
    ready = {"type": "Ready", "status": "True" if well else "False"}
    return {
        "phase": "Running" if well or broken in ("", "crash", "oom") else "Pending",
        "podIP": f"10.0.{number // 250}.{number % 250 + 1}",
        "conditions": [{"type": "PodScheduled", "status": "True"}, ready],
        "containerStatuses": containers,
    }


def _owned_by(pod: Object, deployment: Object) -> bool:
    uid = deployment["metadata"]["uid"]
    return any(each["uid"] == uid for each in pod["metadata"].get("ownerReferences", ()))


def _reference(deployment: Object) -> dict[str, Any]:
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "name": name_of(deployment),
        "uid": deployment["metadata"]["uid"],
        "controller": True,
    }
