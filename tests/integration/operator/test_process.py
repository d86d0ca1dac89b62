"""The operator's process against a real Kubernetes API and MLflow: it follows an alias, and is replaced when killed."""

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.fixtures import Cluster
from tests.fakes.world import digest_of

from modelyard.errors import Conflict
from modelyard.kube.port import DEPLOYMENT, HTTP_ROUTE, LEASE, MODEL_DEPLOYMENT, MODEL_ROLLOUT, Object
from modelyard.processes import Child, free_port, spawn, wait_until
from modelyard.registry.server import start_mlflow

pytestmark = pytest.mark.process


@dataclass
class MLflow:
    """A server of the test's own, that can be taken away."""

    home: Path
    port: int
    child: Child

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, **body: Any) -> Mapping[str, Any]:
        answer = httpx.post(f"{self.uri}/api/2.0/mlflow/{path}", json=body, timeout=20.0)
        assert answer.is_success, answer.text
        found: Mapping[str, Any] = answer.json()
        return found

    def version(self, number: str) -> None:
        tags = [{"key": "modelyard.digest", "value": digest_of(number)}]
        self.post("model-versions/create", name="digits", source=f"s3://models/{number}", tags=tags)

    def alias(self, number: str) -> None:
        self.post("registered-models/alias", name="digits", alias="champion", version=number)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflow]:
    home, port = tmp_path_factory.mktemp("mlflow"), free_port()
    made = MLflow(home, port, start_mlflow(home, port=port))
    made.post("registered-models/create", name="digits")
    for number in "12":
        made.version(number)
    made.alias("1")
    yield made
    made.child.stop()


class Scene:
    """A namespace, and operators that watch it."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, mlflow: MLflow) -> None:
        self.kube, self.namespace, self.folder, self.cluster = cluster.kube, namespace, folder, cluster
        self.replicas: list[Child] = []
        self.apply("ModelRegistry", "main", type="MLflow", mlflow={"trackingURI": mlflow.uri}, pollInterval="1s")

    def apply(self, kind: str, name: str, **spec: Any) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        thing = {"apiVersion": "modelyard.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
        self.kube.apply(thing, manager="kubectl", force=True)

    def wish(self, **spec: Any) -> None:
        model = {"name": "digits", "alias": "champion"}
        self.apply("ModelDeployment", "digits", model=model, traffic={"parentRefs": [{"name": "public"}]}, **spec)

    def operator(self, *dies_after: str) -> Child:
        """Another replica; one that dies is not waited for."""
        program = ["tests.integration.operator.dying", *dies_after] if dies_after else ["modelyard_operator"]
        argv = [
            sys.executable, "-m", *program, "--serving-image", "serving:1", "--namespace", self.namespace,
            "--lease-namespace", self.namespace, "--host", "127.0.0.1", "--port", "0",
            "--kubeconfig", str(self.cluster.kubeconfig),
        ]  # fmt: skip
        child = spawn(argv, log=self.folder / f"operator-{len(self.replicas)}.log")
        self.replicas.append(child)
        if dies_after:
            return child
        wait_until(lambda: self.port(child), deadline_s=60.0, what="the operator", child=child)
        return child

    def lines(self, child: Child) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in child.log.read_text().splitlines() if line.startswith("{")]

    def port(self, child: Child) -> int:
        return next((int(each["port"]) for each in self.lines(child) if each.get("event") == "up"), 0)

    def get(self, child: Child, page: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port(child)}{page}", timeout=10.0)

    def leads(self, child: Child) -> bool:
        return "modelyard_operator_leader 1.0" in self.get(child, "/metrics").text

    def holder(self) -> str:
        lease = self.kube.get(LEASE, self.namespace, "modelyard-operator")
        return "" if lease is None else str(lease["spec"].get("holderIdentity", ""))

    def rollouts(self) -> list[Object]:
        return list(self.kube.list(MODEL_ROLLOUT, namespace=self.namespace).items)

    def phases(self) -> list[str]:
        return [str((each.get("status") or {}).get("phase", "Pending")) for each in self.rollouts()]

    def arms(self) -> list[Object]:
        return list(self.kube.list(DEPLOYMENT, namespace=self.namespace).items)

    def conditions(self) -> dict[str, Mapping[str, Any]]:
        found = self.kube.get(MODEL_DEPLOYMENT, self.namespace, "digits") or {}
        return {each["type"]: each for each in (found.get("status") or {}).get("conditions", ())}

    def become_ready(self) -> bool:
        """What a kubelet and the Deployment controller would say; whether it was said of what is there now."""
        for each in self.arms():
            count = each["spec"]["replicas"]
            status = {
                "observedGeneration": each["metadata"]["generation"], "replicas": count, "readyReplicas": count,
                "updatedReplicas": count, "availableReplicas": count,
            }  # fmt: skip
            try:
                self.kube.replace({**each, "status": status}, manager="kubelet", subresource="status")
            except Conflict:
                return False
        return True

    def accept_routes(self) -> None:
        """What a gateway would say."""
        for route in self.kube.list(HTTP_ROUTE, namespace=self.namespace).items:
            said = [
                {"type": name, "status": "True", "reason": name, "message": "",
                 "observedGeneration": route["metadata"]["generation"], "lastTransitionTime": "2026-01-02T03:04:05Z"}
                for name in ("Accepted", "ResolvedRefs")
            ]  # fmt: skip
            parents = [
                {"parentRef": each, "controllerName": "example.com/gateway", "conditions": said}
                for each in route["spec"]["parentRefs"]
            ]
            if (route.get("status") or {}).get("parents") != parents:
                with suppress(Conflict):
                    self.kube.replace({**route, "status": {"parents": parents}}, manager="gw", subresource="status")

    def free_the_lease(self) -> None:
        """As if the killed one's time had run out: that it is waited for is another test."""
        lease = self.kube.get(LEASE, self.namespace, "modelyard-operator")
        if lease is not None:
            self.kube.replace({**lease, "spec": {**lease["spec"], "holderIdentity": ""}}, manager="tests")

    def holds(self) -> None:
        """What always holds (design, section 4), as far as the API shows it."""
        running = [each for each in self.phases() if each not in ("Successful", "Failed")]
        assert len(running) <= 1, "two attempts are under way"
        arms = {each["metadata"]["name"]: each for each in self.arms()}
        for route in self.kube.list(HTTP_ROUTE, namespace=self.namespace).items:
            backends = [each for rule in route["spec"].get("rules", ())[:1] for each in rule.get("backendRefs", ())]
            live = [each["name"] for each in backends if each.get("weight", 1) >= 1]
            assert set(live) <= set(arms), f"traffic to {live}, of which only {sorted(arms)} are there"


@pytest.fixture
def scene(cluster: Cluster, namespace: str, tmp_path: Path, mlflow: MLflow) -> Iterator[Scene]:
    made = Scene(cluster, namespace, tmp_path, mlflow)
    yield made
    for each in made.replicas:
        each.stop()


POINTS = (
    ("create", "Lease", ""),
    ("create", "ModelRollout", ""),
    ("apply", "ControllerRevision", ""),
    ("apply", "Deployment", ""),
    ("apply", "HTTPRoute", ""),
    ("replace", "ModelRollout", "Successful"),
)
"""Right after the Lease, the attempt, its template, its arm, its weights, and its end."""


@pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="six processes: in `make nightly`")
def test_killed_at_each_of_six_points_the_next_process_goes_on_and_it_ends_where_one_process_would(
    scene: Scene, mlflow: MLflow
) -> None:
    """SIGKILL right after the API server's answer; all of it in one rollout, each process beginning where one died."""
    scene.wish()

    def goes_on() -> bool:
        scene.become_ready()
        scene.accept_routes()
        scene.holds()
        return True

    for point in POINTS:
        child = scene.operator(*point)
        wait_until(lambda child=child: goes_on() and not child.alive(), deadline_s=120.0, what=f"the end at {point}")  # type: ignore[misc]
        assert child.exit_code == -signal.SIGKILL, child.log.read_text()[-3000:]
        scene.free_the_lease()
    last = scene.operator()
    wait_until(lambda: goes_on() and scene.conditions().get("Ready", {}).get("status") == "True", deadline_s=120.0,
               what="that the version is stable", child=last)  # fmt: skip
    assert scene.phases() == ["Successful"]
    (attempt,) = scene.rollouts()
    assert attempt["spec"]["version"] == "1"
    (arm,) = scene.arms()
    wish = scene.kube.get(MODEL_DEPLOYMENT, scene.namespace, "digits")
    assert wish is not None
    assert wish["status"]["stable"]["version"] == "1"
    (route,) = scene.kube.list(HTTP_ROUTE, namespace=scene.namespace).items
    assert {each["name"] for each in route["spec"]["rules"][0]["backendRefs"]} == {arm["metadata"]["name"]}


def test_it_follows_an_alias_is_replaced_when_killed_and_deletion_always_ends(scene: Scene, mlflow: MLflow) -> None:
    """Deletion hangs when the operator went first (nolar/kopf #1088); a watch of kopf freezes at a peer (#734).

    The last of this file: it takes MLflow away.
    """
    first = scene.operator()
    wait_until(lambda: scene.leads(first), deadline_s=60.0, what="the first replica leads", child=first)
    assert scene.get(first, "/healthz").text == "ok\n"
    scene.wish()
    wait_until(scene.rollouts, deadline_s=60.0, what="an attempt", child=first)
    (attempt,) = scene.rollouts()
    assert (attempt["spec"]["version"], attempt["spec"]["digest"]) == ("1", digest_of("1"))
    wait_until(scene.arms, deadline_s=60.0, what="its arm", child=first)
    (arm,) = scene.arms()
    assert arm["metadata"]["ownerReferences"][0]["name"] == "digits"
    wait_until(lambda: "Ready" in scene.conditions(), deadline_s=60.0, what="conditions", child=first)
    assert scene.conditions()["Ready"]["reason"] == "NoStable"
    traced = [each for each in scene.lines(first) if each.get("rollout") == "digits-00001"]
    assert {(each["namespace"], each["name"], each["version"]) for each in traced} == {(scene.namespace, "digits", "1")}
    assert len({each["trace"] for each in traced}) == 1

    second = scene.operator()
    assert not scene.leads(second)
    before = scene.holder()
    first.signal(signal.SIGKILL)
    scene.wish(replicas=2)
    wait_until(lambda: scene.holder() != before, deadline_s=60.0, what="another leader", child=second)
    wait_until(lambda: scene.leads(second), deadline_s=20.0, what="the second replica leads", child=second)
    wait_until(lambda: scene.arms()[0]["spec"]["replicas"] == 2, deadline_s=60.0,
               what="that the second replica does what is wished since", child=second)  # fmt: skip
    wait_until(lambda: scene.become_ready() and scene.phases() == ["Promoting"], deadline_s=60.0,
               what="that it goes on where the first replica left the attempt", child=second)  # fmt: skip

    mlflow.child.signal(signal.SIGKILL)
    scene.kube.delete(MODEL_DEPLOYMENT, scene.namespace, "digits")
    wait_until(lambda: not scene.kube.get(MODEL_DEPLOYMENT, scene.namespace, "digits"), deadline_s=30.0,
               what="the deletion, without MLflow and without a gateway")  # fmt: skip
    if scene.cluster.collects:
        wait_until(lambda: not scene.arms() and not scene.rollouts(), deadline_s=60.0, what="that nothing is left")
    assert second.alive()
    second.signal(signal.SIGTERM)
    assert second.wait(60.0) == 0
    assert scene.holder() == "", "the Lease is given back, so that the next replica need not wait"
