"""kopf's watches, against a real Kubernetes API."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.cluster.fixtures import Cluster

from modelyard.kube.port import MODEL_DEPLOYMENT, Object
from modelyard.processes import wait_until
from modelyard_operator.due import Queue
from modelyard_operator.index import Index
from modelyard_operator.registries import Registries
from modelyard_operator.watches import KopfWatches, Seen

pytestmark = pytest.mark.process


class Scene:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.kube, self.namespace = cluster.kube, namespace
        self.index, self.looks = Index(), Queue()
        self.watches = KopfWatches(Seen(self.index, self.looks, Registries(cluster.kube), Queue()), namespace=namespace)

    def wish(self, name: str, **spec: object) -> Object:
        model = {"name": name, "alias": "champion"}
        return {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"model": model, **spec},
        }

    def names(self) -> set[str]:
        return {each.partition("/")[2] for each in self.index.names(MODEL_DEPLOYMENT)}


@pytest.fixture
def scene(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setattr("getpass.getuser", nameless)
    made = Scene(cluster, namespace)
    made.watches.start()
    wait_until(lambda: made.watches.ready, deadline_s=60.0, what="kopf")
    yield made
    made.watches.stop()


def nameless() -> str:
    """A pod's user stands in no passwd file; only a real node showed that kopf asks for its name."""
    raise KeyError("getpwuid(): uid not found: 10001")


def test_our_kinds_are_watched_without_a_finalizer_and_a_dead_watch_is_noticed(scene: Scene) -> None:
    """Deletion hangs (nolar/kopf #1088, #896); a zombie lives on after its watch ended (#787, #1276)."""
    scene.kube.create(scene.wish("digits"), manager="tests")
    scene.kube.create(scene.wish("reviews"), manager="tests")
    wait_until(lambda: scene.names() == {"digits", "reviews"}, deadline_s=30.0, what="both")
    found = scene.kube.get(MODEL_DEPLOYMENT, scene.namespace, "digits")
    assert found is not None
    assert not found["metadata"].get("finalizers")
    assert not found["metadata"].get("annotations")
    scene.kube.delete(MODEL_DEPLOYMENT, scene.namespace, "digits")
    wait_until(lambda: scene.names() == {"reviews"}, deadline_s=30.0, what="the deletion")
    assert scene.watches.trouble() == ""
    loop = scene.watches._loop
    assert loop is not None

    def end_one() -> None:
        for task in asyncio.all_tasks(loop):
            if task.get_name().startswith("watcher for modeldeployments"):
                task.cancel()

    loop.call_soon_threadsafe(end_one)
    wait_until(scene.watches.trouble, deadline_s=30.0, what="that it is noticed")
