"""The ports of the loop over a Kubernetes API, in memory or real, with what happens to them in the world."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

from tests.fakes.cluster import FakeKube
from tests.fakes.controllers import Controllers, is_ready

from modelyard.errors import Conflict, Unavailable
from modelyard.kube.metadata import ARM_LABEL, labels_of
from modelyard.kube.port import HTTP_ROUTE, MODEL_DEPLOYMENT, MODEL_REGISTRY, POD, Kind, Kube, Object
from modelyard.processes import wait_until
from modelyard.rollout.cluster.arms import KubeArms
from modelyard.rollout.cluster.counters import PodCounters
from modelyard.rollout.cluster.render import Settings
from modelyard.rollout.cluster.router import RouteRouter
from modelyard.serving.tally import Tally
from modelyard.spec.codec import to_data
from modelyard.spec.deployment import DeploymentSpec, ModelRef, ParentRef, Traffic

SPEC = DeploymentSpec(
    model=ModelRef(name="digits", alias="champion"), traffic=Traffic(parent_refs=(ParentRef(name="public"),))
)
DEADLINE_S = 30.0


class ClusterPorts:
    """Arms, router and counters of the deployment `digits` in one namespace."""

    def __init__(self, kube: Kube, namespace: str = "default") -> None:
        self.kube, self.namespace, self.key = kube, namespace, f"{namespace}/digits"
        self.tallies: dict[str, Tally] = {}
        self.clock = 0.0
        self.counters = PodCounters(kube, self._scrape)
        self.arms = KubeArms(kube, Settings(serving_image="serving:1"))
        self.router = RouteRouter(kube, self.counters, clock=lambda: self.clock)
        self._put(MODEL_REGISTRY, "main", {"type": "MLflow", "mlflow": {"trackingURI": "http://mlflow.test"}})
        self._put(MODEL_DEPLOYMENT, "digits", to_data(SPEC))

    def settle_arms(self) -> None:
        """Let pods become ready, and what is on its way out be gone."""

        def settled() -> bool:
            self._turn()
            found = self.arms.arms(self.key)
            self.arms.keep(self.key, SPEC)
            return all(arm.replicas == arm.ready and arm.replicas > 0 for arm in found.values())

        wait_until(settled, deadline_s=DEADLINE_S, what="the arms")

    def settle_weights(self) -> None:
        """Let the gateway take the route, and time pass without traffic."""

        def settled() -> bool:
            self._turn()
            self.clock += 1.0
            weights = self.router.weights(self.key)
            return weights.confirmed == weights.asked

        wait_until(settled, deadline_s=DEADLINE_S, what="the weights")

    def serve(self, arm: str, *, requests: int, errors: int = 0, classes: Sequence[str] = ()) -> None:
        """An arm of one pod answers so many requests, the first of them with these classes."""
        if arm not in self.tallies:
            self.tallies[arm] = Tally()
            self.pod(arm)
        for number in range(requests):
            self.tallies[arm].ended(500 if number < errors else 200, 0.02)
        self.tallies[arm].classes.update(map(quote, classes))

    def pod(self, arm: str) -> None:
        """A ready pod of an arm, whoever made it."""
        labels = {"modelyard.dev/deployment": "digits", ARM_LABEL: arm}
        about = {"name": f"digits-{arm}", "namespace": self.namespace, "labels": labels}
        container = {"name": "server", "image": "serving:1"}
        thing = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {"containers": [container]}}
        wait_until(lambda: self._allowed(thing), deadline_s=DEADLINE_S, what="the namespace's service account")
        self._turn(address=f"10.0.0.{len(self.tallies)}")

    # the world

    def _allowed(self, thing: Object) -> bool:
        with suppress(Conflict, Unavailable):
            return bool(self.kube.apply(thing, manager="test"))
        return False

    def _turn(self, address: str = "10.0.0.9") -> None:
        """What kubelet and a gateway do, where no others are there."""
        if isinstance(self.kube, FakeKube) and not self.tallies:
            Controllers(self.kube).settle()
            return
        for pod in self.kube.list(POD, namespace=self.namespace).items:
            if not is_ready(pod):
                ready = {"type": "Ready", "status": "True"}
                self._status(
                    pod, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
                )
        for route in self.kube.list(HTTP_ROUTE, namespace=self.namespace).items if not self.tallies else ():
            at = route["metadata"]["generation"]
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            said = [
                {"type": name, "status": "True", "reason": name, "message": "", "observedGeneration": at,
                 "lastTransitionTime": now}
                for name in ("Accepted", "ResolvedRefs")
            ]  # fmt: skip
            parents = [
                {"parentRef": each, "controllerName": "example.com/gateway", "conditions": said}
                for each in route["spec"]["parentRefs"]
            ]
            self._status(route, {"parents": parents})

    def _status(self, thing: Object, status: Mapping[str, Any]) -> None:
        with suppress(Conflict):
            self.kube.replace({**thing, "status": status}, manager="world", subresource="status")

    def _scrape(self, url: str) -> str:
        address = urlsplit(url).hostname
        for pod in self.kube.list(POD, namespace=self.namespace).items:
            if pod.get("status", {}).get("podIP") == address:
                return self.tallies.get(labels_of(pod)[ARM_LABEL], Tally()).text({})
        raise Unavailable(f"{url} is away", do="wait")

    def _put(self, kind: Kind, name: str, spec: Mapping[str, Any]) -> None:
        about = {"name": name, "namespace": self.namespace}
        thing = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, "spec": spec}
        self.kube.apply(thing, manager="kubectl", force=True)


class At:
    """A port that is asked about one key and is told of another: tests share one real API server."""

    def __init__(self, port: Any, key: str) -> None:
        self._port, self._key = port, key

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._port, name)
        return lambda _key, *rest, **more: verb(self._key, *rest, **more)
