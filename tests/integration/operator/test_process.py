"""The operator's process against a real Kubernetes API and MLflow: it follows an alias, and is replaced when killed."""

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.fixtures import Cluster
from tests.fakes.world import digest_of

from modelyard.errors import Conflict
from modelyard.kube.port import DEPLOYMENT, LEASE, MODEL_DEPLOYMENT, MODEL_ROLLOUT, Object
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

    def operator(self) -> Child:
        """Another replica."""
        argv = [
            sys.executable, "-m", "modelyard_operator", "--serving-image", "serving:1", "--namespace", self.namespace,
            "--lease-namespace", self.namespace, "--host", "127.0.0.1", "--port", "0",
            "--kubeconfig", str(self.cluster.kubeconfig),
        ]  # fmt: skip
        child = spawn(argv, log=self.folder / f"operator-{len(self.replicas)}.log")
        self.replicas.append(child)
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
        return [str(each["status"]["phase"]) for each in self.rollouts()]

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


@pytest.fixture
def scene(cluster: Cluster, namespace: str, tmp_path: Path, mlflow: MLflow) -> Iterator[Scene]:
    made = Scene(cluster, namespace, tmp_path, mlflow)
    yield made
    for each in made.replicas:
        each.stop()


def test_it_follows_an_alias_is_replaced_when_killed_and_deletion_always_ends(scene: Scene, mlflow: MLflow) -> None:
    """Deletion hangs when the operator went first (nolar/kopf #1088); a watch of kopf freezes at a peer (#734)."""
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
