"""What a cache answers itself, when it asks, and that it never answers what is older than was written through it."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.fakes.cluster import Call, FakeKube

from modelyard.errors import Conflict, Forbidden, Unavailable
from modelyard.kube.cache import SILENCE_S, Cached, Store
from modelyard.kube.metadata import DEPLOYMENT_LABEL
from modelyard.kube.port import CONFIG_MAP, POD, SERVICE, Change

OURS = {DEPLOYMENT_LABEL: None}


class Scene:
    """A cache before an API in memory; its watch tells when `hear` is called."""

    def __init__(self) -> None:
        self.kube, self.now = FakeKube(), 0.0
        self.store = Store(CONFIG_MAP, clock=lambda: self.now)
        self.services = Store(SERVICE, labels=OURS, clock=lambda: self.now)
        self.cache = Cached(self.kube, [self.store, self.services])
        self.version = self.kube.list(CONFIG_MAP).resource_version
        self.cache.renew()
        for store in self.cache.stores.values():
            store.watched()
        self.kube.calls.clear()

    def hear(self) -> None:
        for change in self.kube.watch(CONFIG_MAP, resource_version=self.version, deadline_s=0.0):
            self.tell(change)
        self.kube.calls.clear()

    def tell(self, change: Change) -> None:
        self.store.told(change)
        self.version = change.object["metadata"]["resourceVersion"]

    def pending(self) -> list[Change]:
        """What the watch has not told yet."""
        found = list(self.kube.watch(CONFIG_MAP, resource_version=self.version, deadline_s=0.0))
        self.kube.calls.clear()
        return found

    def put(self, name: str = "a", *, of: str = "digits", kind: str = "ConfigMap", **data: str) -> Mapping[str, Any]:
        labels = {DEPLOYMENT_LABEL: of} if of else {}
        about = {"name": name, "namespace": "vision", "labels": labels}
        return {"apiVersion": "v1", "kind": kind, "metadata": about, "data": data}

    def by_others(self, name: str = "a", **data: str) -> None:
        self.kube.apply(self.put(name, **data), manager="others", force=True)
        self.kube.calls.clear()

    def get(self, name: str = "a") -> Mapping[str, Any] | None:
        return self.cache.get(CONFIG_MAP, "vision", name)

    def names(self, of: str = "digits") -> list[str]:
        found = self.cache.list(CONFIG_MAP, namespace="vision", labels={DEPLOYMENT_LABEL: of}).items
        return [each["metadata"]["name"] for each in found]

    def asked(self) -> list[str]:
        """Requests since the last time."""
        calls = [each.verb for each in self.kube.calls]
        self.kube.calls.clear()
        return calls


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_the_watch_told_costs_no_request(scene: Scene) -> None:
    scene.by_others("a", x="1")
    scene.by_others("b", of="reviews")
    scene.hear()
    found = scene.get()
    assert found is not None
    assert found == scene.kube.all(CONFIG_MAP)[0]
    assert (scene.names(), scene.names("reviews"), scene.names("nobody")) == (["a"], ["b"], [])
    assert scene.asked() == []


def test_an_answer_is_the_readers_own(scene: Scene) -> None:
    scene.by_others(x="1")
    scene.hear()
    first: Any = scene.get()
    first["data"]["x"] = "2"
    assert scene.get() != first


def test_what_is_not_kept_is_asked_for(scene: Scene) -> None:
    """It may be there without the labels that are watched."""
    scene.kube.apply(scene.put(of="", kind="Service"), manager="others")
    found = scene.cache.get(SERVICE, "vision", "a")
    assert found is not None
    assert scene.asked() == ["apply", "get"]
    assert scene.cache.list(SERVICE, namespace="vision").items == (found,), "a list by fewer labels is asked for too"
    assert scene.cache.list(SERVICE, namespace="vision", labels={DEPLOYMENT_LABEL: "digits"}).items == ()
    assert scene.asked() == ["list"]


def test_what_was_written_is_known_before_the_watch_tells(scene: Scene) -> None:
    scene.cache.apply(scene.put(x="1"), manager="m")
    scene.asked()
    found = scene.get()
    assert found is not None
    assert (found["data"], scene.names(), scene.asked()) == ({"x": "1"}, ["a"], [])


def test_what_the_watch_tells_late_is_older_than_what_was_written(scene: Scene) -> None:
    scene.by_others(x="1")
    late = scene.pending()
    scene.cache.apply(scene.put(x="2"), manager="m", force=True)
    for each in late:
        scene.tell(each)
    found = scene.get()
    assert found is not None
    assert found["data"] == {"x": "2"}


def test_what_was_deleted_stays_gone_whatever_the_watch_tells_late(scene: Scene) -> None:
    scene.by_others(x="1")
    scene.hear()
    scene.by_others(x="2")
    late = scene.pending()
    scene.cache.delete(CONFIG_MAP, "vision", "a")
    for each in late:
        scene.tell(each)
    assert scene.get() is None
    assert scene.names() == []
    scene.hear()
    assert scene.get() is None
    scene.asked()
    assert (scene.names(), scene.asked()) == ([], [])


def test_an_answer_that_came_after_the_watch_told_of_the_end_is_no_ghost(scene: Scene) -> None:
    held: list[Mapping[str, Any]] = []
    apply = scene.kube.apply

    def slow(*args: Any, **kwargs: Any) -> Mapping[str, Any]:
        held.append(apply(*args, **kwargs))
        scene.kube.delete(CONFIG_MAP, "vision", "a")
        scene.hear()  # another thread hears of both before this answer is taken
        return held[0]

    scene.kube.apply = slow  # type: ignore[method-assign]
    scene.cache.apply(scene.put(x="1"), manager="m")
    assert (scene.get(), scene.names()) == (None, [])


@pytest.mark.parametrize("lost", [True, False], ids=["it was done", "it was not"])
def test_after_a_write_whose_answer_was_lost_the_api_is_asked(scene: Scene, lost: bool) -> None:
    scene.by_others(x="1")
    scene.hear()

    def fail(call: Call) -> None:
        if call.verb == "apply":
            raise Unavailable("no answer in time", do="wait")

    scene.kube.before, scene.kube.after = (lambda _call: None, fail) if lost else (fail, lambda _call: None)
    with pytest.raises(Unavailable):
        scene.cache.apply(scene.put(x="2"), manager="m", force=True)
    scene.kube.before = scene.kube.after = lambda _call: None
    scene.asked()
    found = scene.get()
    assert found is not None
    assert found["data"] == {"x": "2" if lost else "1"}
    assert scene.asked() == ["get"]
    assert scene.get() == found
    assert scene.asked() == [], "then it is known"


def test_after_a_conflict_the_next_read_sees_what_others_did(scene: Scene) -> None:
    scene.by_others(x="1")
    scene.hear()
    scene.by_others(x="2")
    old: Any = scene.get()
    with pytest.raises(Conflict):
        scene.cache.replace(old, manager="m")
    found = scene.get()
    assert found is not None
    assert found["data"] == {"x": "2"}


def test_what_another_made_first_is_in_the_next_list(scene: Scene) -> None:
    scene.by_others(x="1")
    with pytest.raises(Conflict):
        scene.cache.create(scene.put(x="2"), manager="m")
    assert scene.names() == ["a"]


@pytest.mark.parametrize("how", ["ended", "silent", "distrusted"])
def test_a_watch_that_may_be_dead_is_not_believed(scene: Scene, how: str) -> None:
    scene.by_others(x="1")
    scene.hear()
    if how == "ended":
        scene.store.lost()
    elif how == "silent":
        scene.now += SILENCE_S
    else:
        scene.store.distrust()
    scene.by_others(x="2")
    found = scene.get()
    assert found is not None
    assert found["data"] == {"x": "2"}
    assert (scene.names(), scene.asked()) == (["a"], ["get", "list"])


def test_who_begins_to_lead_reads_what_was_written_until_then(scene: Scene) -> None:
    scene.by_others(x="1")
    scene.hear()
    scene.by_others(x="2")
    late = scene.pending()
    scene.cache.renew()
    scene.asked()
    for each in late:
        scene.tell(each)
    found = scene.get()
    assert found is not None
    assert (found["data"], scene.asked()) == ({"x": "2"}, [])


def test_a_list_that_began_before_makes_nothing_believed(scene: Scene) -> None:
    turn, found = scene.store.turn, scene.kube.list(CONFIG_MAP)
    scene.store.distrust()
    scene.store.listed(found, turn)
    assert not scene.store.believed


def test_a_kind_that_cannot_be_listed_is_asked_for(scene: Scene) -> None:
    def forbid(call: Call) -> None:
        if call.verb == "list":
            raise Forbidden("no right to list configmaps", do="grant it")

    scene.by_others(x="1")
    scene.hear()
    scene.kube.before = forbid
    scene.cache.renew()
    assert scene.get() is not None
    assert scene.asked()[-1] == "get"
    assert scene.services.turn == scene.store.turn


def test_a_list_finds_what_was_deleted_while_nobody_watched(scene: Scene) -> None:
    scene.by_others(x="1")
    scene.hear()
    scene.kube.delete(CONFIG_MAP, "vision", "a")
    scene.store.listed(scene.kube.list(CONFIG_MAP), scene.store.turn)
    scene.asked()
    assert (scene.names(), scene.asked()) == ([], [])


def test_of_a_pod_only_what_is_looked_at_is_kept() -> None:
    store = Store(POD)
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": "x" * 10_000}, "status": {"podIP": "10.0.0.1"}}
    store.told(Change("ADDED", {**pod, "metadata": {"name": "a", "namespace": "n", "resourceVersion": "1"}}))
    assert len(store._kept["n", "a"].data) < 500


def test_another_namespace_than_the_watched_one_is_asked_for() -> None:
    kube = FakeKube()
    cache = Cached(kube, [Store(CONFIG_MAP, namespace="vision")])
    cache.renew()
    cache.stores[CONFIG_MAP].watched()
    kube.calls.clear()
    for namespace in ("vision", "gateways", ""):
        cache.list(CONFIG_MAP, namespace=namespace)
    assert [call.namespace for call in kube.calls] == ["gateways", ""]
