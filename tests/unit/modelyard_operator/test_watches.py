"""What wakes which deployment, and what does not."""

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import kopf
import pytest
from tests.fakes.cluster import FakeKube

from modelyard.errors import Forbidden
from modelyard.kube.cache import Store
from modelyard.kube.metadata import DEPLOYMENT_LABEL, MANAGED_BY
from modelyard.kube.port import (
    DEPLOYMENT,
    HPA,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    MODEL_REGISTRY,
    MODEL_ROLLOUT,
    Kind,
)
from modelyard.processes import wait_until
from modelyard_operator.due import Queue
from modelyard_operator.index import Index, Wish
from modelyard_operator.lease import MANAGER
from modelyard_operator.registries import Registries
from modelyard_operator.watches import WISHES, Seen, Watch, handlers, login, settings

LABELS = {MANAGED_BY: MANAGER}


def thing(kind: Kind, name: str, *, generation: int = 1, labels: dict[str, str] | None = None, **rest: Any) -> Any:
    metadata = {"name": name, "namespace": "vision", "uid": f"uid-{name}", "generation": generation}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {**metadata, "labels": labels or {}, "resourceVersion": "1"},
        **rest,
    }


def wish(name: str = "digits", *, generation: int = 1, registry: str = "main", **status: Any) -> Any:
    model = {"name": name, "alias": "champion", "registryRef": {"name": registry}}
    return thing(MODEL_DEPLOYMENT, name, generation=generation, spec={"model": model}, status=status)


def owned(kind: Kind, name: str, *, of: str = "digits", generation: int = 1, **status: Any) -> Any:
    labels = {DEPLOYMENT_LABEL: of, **LABELS}
    return thing(kind, name, generation=generation, labels=labels, spec={}, status=status)


class Scene:
    def __init__(self) -> None:
        self.kube, self.index, self.looks, self.polls = FakeKube(), Index(), Queue(), Queue()
        self.registries = Registries(self.kube)
        self.seen = Seen(self.index, self.looks, self.registries, self.polls)

    def woken(self) -> set[str]:
        """What is due, which is then done."""
        return self._drained(self.looks)

    def polled(self) -> set[str]:
        return self._drained(self.polls)

    @staticmethod
    def _drained(queue: Queue) -> set[str]:
        found = set()
        while len(queue):
            taken = queue.take()
            assert taken is not None
            queue.done(taken.key, after_s=None)
            found.add(taken.key)
        return found


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_wish_wakes_itself_when_it_is_made_changed_or_deleted(scene: Scene) -> None:
    scene.seen.change(MODEL_DEPLOYMENT, wish())
    assert scene.woken() == {"vision/digits"}
    scene.seen.change(MODEL_DEPLOYMENT, wish(generation=2))
    assert scene.woken() == {"vision/digits"}
    scene.seen.gone(MODEL_DEPLOYMENT, "vision/digits")
    assert scene.woken() == {"vision/digits"}


def test_the_status_that_we_write_wakes_nobody(scene: Scene) -> None:
    scene.seen.change(MODEL_DEPLOYMENT, wish())
    scene.woken()
    scene.seen.change(MODEL_DEPLOYMENT, wish(rollout="digits-00001", stable={"version": "1"}))
    assert scene.woken() == set()
    entry = scene.index.entry(MODEL_DEPLOYMENT, "vision/digits")
    assert entry is not None
    assert isinstance(entry.kept, Wish)
    assert (entry.kept.stable, entry.kept.rollout) == ("1", "digits-00001"), "the metrics know it"


def test_a_switch_that_a_person_set_on_a_rollout_wakes_its_deployment(scene: Scene) -> None:
    spec = {"deployment": "digits"}
    for generation in (1, 2):
        scene.seen.change(MODEL_ROLLOUT, thing(MODEL_ROLLOUT, "digits-00001", generation=generation, spec=spec))
        assert scene.woken() == {"vision/digits"}
    scene.seen.change(MODEL_ROLLOUT, thing(MODEL_ROLLOUT, "digits-00001", generation=2, spec=spec, status={"step": 3}))
    assert scene.woken() == set()


@pytest.mark.parametrize(
    ("kind", "status", "news"),
    [
        (DEPLOYMENT, {"readyReplicas": 1}, True),
        (DEPLOYMENT, {"conditions": [{"type": "Progressing", "status": "False", "reason": "Stuck"}]}, True),
        (DEPLOYMENT, {"conditions": [], "collisionCount": 3}, False),
        (HTTP_ROUTE, {"parents": [{"conditions": [{"type": "Accepted", "status": "True"}]}]}, True),
        (HPA, {"currentMetrics": [{"averageUtilization": 71}]}, False),
        (HPA, {"desiredReplicas": 9}, True),
    ],
    ids=[
        "a pod became ready",
        "a Deployment is stuck",
        "a field that says nothing to us",
        "a gateway accepted the route",
        "how busy pods are, every 15 s",
        "the autoscaler wants more",
    ],
)
def test_of_what_we_own_only_news_wakes_the_owner(scene: Scene, kind: Kind, status: dict[str, Any], news: bool) -> None:
    scene.seen.change(kind, owned(kind, "digits-a1"))
    scene.woken()
    scene.seen.change(kind, owned(kind, "digits-a1", **status))
    assert scene.woken() == ({"vision/digits"} if news else set())


def test_an_object_that_somebody_deleted_or_edited_wakes_its_owner(scene: Scene) -> None:
    scene.seen.change(DEPLOYMENT, owned(DEPLOYMENT, "digits-a1"))
    scene.woken()
    scene.seen.change(DEPLOYMENT, owned(DEPLOYMENT, "digits-a1", generation=2))
    assert scene.woken() == {"vision/digits"}
    scene.seen.gone(DEPLOYMENT, "vision/digits-a1")
    assert scene.woken() == {"vision/digits"}


def test_an_owner_whose_name_is_too_long_for_a_label_is_woken_by_the_owner_reference(scene: Scene) -> None:
    arm, name = owned(DEPLOYMENT, "digits-a1", of="d" * 54 + "-1a2b3c4d"), "d" * 80
    arm["metadata"]["ownerReferences"] = [{"kind": "ModelDeployment", "name": name, "uid": "u-1"}]
    scene.seen.change(DEPLOYMENT, arm)
    assert scene.woken() == {f"vision/{name}"}


def test_a_registry_is_polled_at_once_and_wakes_who_follows_it(scene: Scene) -> None:
    scene.seen.change(MODEL_DEPLOYMENT, wish())
    scene.seen.change(MODEL_DEPLOYMENT, wish("reviews", registry="other"))
    scene.woken()
    spec = {"mlflow": {"trackingURI": "http://mlflow.test"}, "type": "MLflow"}
    scene.seen.change(MODEL_REGISTRY, thing(MODEL_REGISTRY, "main", spec=spec))
    assert scene.polled() == {"vision/main"}
    assert scene.woken() == {"vision/digits"}
    assert scene.registries.interval_s("vision/main") == 5.0
    scene.seen.gone(MODEL_REGISTRY, "vision/main")
    assert scene.woken() == {"vision/digits"}
    assert scene.registries.interval_s("vision/main") is None


def test_a_registry_that_cannot_be_read_ends_no_watch(scene: Scene) -> None:
    scene.seen.change(MODEL_REGISTRY, thing(MODEL_REGISTRY, "main", spec={"mlflow": 7}))
    assert scene.polled() == set()


def test_memory_holds_projections_never_objects(scene: Scene) -> None:
    """10,000 whole objects cost 232 MiB (kopf)."""
    scene.seen.change(DEPLOYMENT, owned(DEPLOYMENT, "digits-a1") | {"spec": {"template": "x" * 100_000}})
    assert "xxx" not in repr(scene.index._entries)


# the watch of what we own


@pytest.fixture
def watch(scene: Scene) -> Iterator[Watch]:
    made = Watch(scene.kube, Store(DEPLOYMENT, labels=LABELS), scene.seen)
    yield made
    made.stop()


def test_a_watch_lists_then_follows(scene: Scene, watch: Watch) -> None:
    scene.kube.create(owned(DEPLOYMENT, "digits-a1"), manager="test")
    watch.start()
    wait_until(lambda: scene.index.names(DEPLOYMENT) == {"vision/digits-a1"}, deadline_s=10.0, what="the list")
    scene.kube.create(owned(DEPLOYMENT, "reviews-a1", of="reviews"), manager="test")
    scene.kube.create(thing(DEPLOYMENT, "somebody-elses", spec={}), manager="test")
    scene.kube.delete(DEPLOYMENT, "vision", "digits-a1")
    wait_until(lambda: scene.index.names(DEPLOYMENT) == {"vision/reviews-a1"}, deadline_s=10.0, what="the events")
    assert watch.trouble() == ""


def test_a_watch_that_was_away_finds_what_was_deleted_meanwhile(scene: Scene, watch: Watch) -> None:
    """A missed event leaves a stale replica count for good (argoproj/argo-rollouts #3316)."""
    scene.seen.change(DEPLOYMENT, owned(DEPLOYMENT, "digits-a1"))
    scene.woken()
    watch.start()
    wait_until(lambda: not scene.index.names(DEPLOYMENT), deadline_s=10.0, what="the list")
    assert scene.woken() == {"vision/digits"}


def test_a_watch_that_expired_or_was_refused_begins_anew(scene: Scene, watch: Watch) -> None:
    """A watch dies and never recovers (nolar/kopf #787)."""
    refused = threading.Event()

    def refuse(call: Any) -> None:
        if call.verb == "list" and not refused.is_set():
            refused.set()
            raise Forbidden("deployments.apps is forbidden: cannot list", do="give the role")

    scene.kube.before = refuse
    watch.start()
    assert refused.wait(10.0)
    scene.kube.create(owned(DEPLOYMENT, "digits-a1"), manager="test")
    wait_until(lambda: scene.index.names(DEPLOYMENT), deadline_s=10.0, what="the list, after it was allowed")
    assert watch.trouble() == ""


def test_a_kind_that_is_not_installed_is_waited_for(watch: Watch, scene: Scene) -> None:
    scene.kube.absent.add(DEPLOYMENT)
    watch.start()
    wait_until(lambda: scene.kube.calls, deadline_s=10.0, what="the first list")
    assert watch.trouble() == ""


def test_a_watch_whose_thread_ended_is_trouble(scene: Scene, watch: Watch) -> None:
    """An operator lives on as a zombie after its watch ended (nolar/kopf #1276)."""
    watch.start()
    watch.stop()
    scene.kube.create(owned(DEPLOYMENT, "digits-a1"), manager="test")
    wait_until(watch.trouble, deadline_s=10.0, what="the end of the watch")
    assert "watch of deployments has ended" in watch.trouble()


def test_kopf_gets_no_handler_that_puts_a_finalizer_on_anything(scene: Scene) -> None:
    """Deletion hangs when the operator went first (nolar/kopf #1088, #896)."""
    registry = handlers(scene.seen, {})
    assert len(registry._watching.get_all_handlers()) == len(WISHES)
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert settings().posting.enabled is False


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("10.96.0.1", "https://10.96.0.1:6443"),
        ("fd00::1", "https://[fd00::1]:6443"),
        ("", "https://kubernetes.default.svc"),
    ],
)
def test_kopf_finds_the_api_without_a_name_server(host: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    account = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert login() == dataclasses.replace(account, server=server)
