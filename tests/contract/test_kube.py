"""What a Kubernetes API does; held against the one in memory and a real API server.

Every world that the operator is tested in stands on the first, so it must not differ from the second where we would
notice. https://kubernetes.io/docs/reference/using-api/api-concepts/ and .../server-side-apply/
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from tests.fakes.cluster import FakeKube

from modelyard.errors import Conflict, Expired, NotInstalled, Owned, Refused
from modelyard.kube.metadata import owner_reference
from modelyard.kube.port import (
    CONFIG_MAP,
    DEPLOYMENT,
    GATEWAY,
    HTTP_ROUTE,
    LEASE,
    MODEL_DEPLOYMENT,
    Change,
    Kube,
    Object,
)
from modelyard.processes import wait_until


@dataclass(frozen=True)
class Api:
    """A Kubernetes API and a namespace to write to."""

    kube: Kube
    namespace: str
    collects: bool
    real: bool

    def config(self, name: str = "a", *, labels: Mapping[str, str] | None = None, **data: str) -> dict[str, Any]:
        return self.named("v1", "ConfigMap", name, labels, data=data)

    def wish(self, name: str = "digits", **spec: Any) -> dict[str, Any]:
        wished = {"model": {"name": "digits", "alias": "champion"}, **spec}
        return self.named("modelyard.dev/v1alpha1", "ModelDeployment", name, spec=wished)

    def deployment(self, name: str = "a", **spec: Any) -> dict[str, Any]:
        container = {"name": "server", "image": "server:1"}
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
        return self.named(
            "apps/v1",
            "Deployment",
            name,
            spec={"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
        )

    def route(self, **weights: int) -> dict[str, Any]:
        backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
        return self.named(HTTP_ROUTE.api_version, "HTTPRoute", "r", spec={"rules": [{"backendRefs": backends}]})

    def named(
        self, api: str, kind: str, name: str, labels: Mapping[str, str] | None = None, **rest: Any
    ) -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace, **({"labels": dict(labels)} if labels else {})}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}

    def changes(self, since: str, enough: int, **selection: Any) -> list[Change]:
        """So many changes of ConfigMaps, bookmarks left out."""
        found: list[Change] = []
        watch = self.kube.watch(
            CONFIG_MAP, namespace=self.namespace, resource_version=since, deadline_s=20 if self.real else 0, **selection
        )
        for change in watch:
            found += [change] if change.type != "BOOKMARK" else []
            if len(found) == enough:
                break
        return found


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.process)])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    if request.param == "memory":
        yield Api(kube=FakeKube(absent=(GATEWAY,)), namespace="default", collects=True, real=False)
        return
    cluster = request.getfixturevalue("cluster")
    namespace = request.getfixturevalue("namespace")
    yield Api(kube=cluster.kube, namespace=namespace, collects=cluster.collects, real=True)


def version(thing: Object | None) -> str:
    assert thing is not None
    return str(thing["metadata"]["resourceVersion"])


def test_what_was_made_is_read_back(api: Api) -> None:
    made = api.kube.create(api.config(labels={"app": "a"}, x="1"), manager="m")
    assert made["data"] == {"x": "1"}
    assert made["metadata"]["uid"]
    assert "managedFields" not in made["metadata"]
    assert api.kube.get(CONFIG_MAP, api.namespace, "a") == made


def test_what_is_not_there_is_none_and_deleting_it_is_nothing(api: Api) -> None:
    assert api.kube.get(CONFIG_MAP, api.namespace, "a") is None
    api.kube.delete(CONFIG_MAP, api.namespace, "a")


def test_making_it_twice_is_a_conflict(api: Api) -> None:
    api.kube.create(api.config(), manager="m")
    with pytest.raises(Conflict):
        api.kube.create(api.config(), manager="m")


def test_an_answer_is_a_copy(api: Api) -> None:
    made: Any = api.kube.create(api.config(x="1"), manager="m")
    made["data"]["x"] = "2"
    found = api.kube.get(CONFIG_MAP, api.namespace, "a")
    assert found is not None
    assert found["data"] == {"x": "1"}


def test_a_list_has_what_its_labels_and_namespace_select_by_name(api: Api) -> None:
    api.kube.create(api.config("c", labels={"app": "a", "tier": "x"}), manager="m")
    api.kube.create(api.config("b", labels={"app": "a"}), manager="m")
    api.kube.create(api.config("d", labels={"app": "b"}), manager="m")

    def names(**labels: str) -> list[str]:
        found = api.kube.list(CONFIG_MAP, namespace=api.namespace, labels=labels).items
        assert all(each["kind"] == "ConfigMap" and each["apiVersion"] == "v1" for each in found)
        return [each["metadata"]["name"] for each in found if each["metadata"]["name"] != "kube-root-ca.crt"]

    assert names() == ["b", "c", "d"]
    assert names(app="a") == ["b", "c"]
    assert names(app="a", tier="x") == ["c"]
    assert names(app="c") == []
    everywhere = api.kube.list(CONFIG_MAP, labels={"app": "b"}).items
    assert (api.namespace, "d") in {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in everywhere}


# apply


def test_an_apply_makes_and_then_changes_the_object(api: Api) -> None:
    first = api.kube.apply(api.config(x="1"), manager="m")
    second = api.kube.apply(api.config(x="2"), manager="m")
    assert second["data"] == {"x": "2"}
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert version(second) != version(first)


def test_an_apply_of_what_is_so_writes_nothing(api: Api) -> None:
    first = api.kube.apply(api.config(labels={"a": "1"}, x="1"), manager="m")
    assert api.kube.apply(api.config(labels={"a": "1"}, x="1"), manager="m") == first
    wish = api.kube.apply(api.wish(), manager="m")
    assert api.kube.apply(api.wish(), manager="m") == wish


def test_an_apply_removes_what_it_gave_before_and_gives_no_more(api: Api) -> None:
    api.kube.apply(api.config(labels={"a": "1", "b": "1"}, x="1", y="1"), manager="m")
    after = api.kube.apply(api.config(labels={"b": "1"}, y="1"), manager="m")
    assert after["data"] == {"y": "1"}
    assert after["metadata"]["labels"] == {"b": "1"}


def test_an_apply_leaves_fields_of_others_alone(api: Api) -> None:
    api.kube.apply(api.config(x="1"), manager="m")
    api.kube.apply(api.config(y="1"), manager="other")
    after = api.kube.apply(api.config(x="2"), manager="m")
    assert after["data"] == {"x": "2", "y": "1"}


def test_a_field_that_two_gave_stays_when_one_leaves_it(api: Api) -> None:
    api.kube.apply(api.config(x="1", y="1"), manager="m")
    api.kube.apply(api.config(x="1"), manager="other")
    after = api.kube.apply(api.config(y="1"), manager="m")
    assert after["data"] == {"x": "1", "y": "1"}


def test_a_field_that_another_has_otherwise_is_a_conflict_that_names_both(api: Api) -> None:
    api.kube.apply(api.deployment(replicas=1), manager="m")
    with pytest.raises(Owned, match=r"replicas") as told:
        api.kube.apply(api.deployment(replicas=2), manager="other")
    assert "m" in told.value.what
    found = api.kube.get(DEPLOYMENT, api.namespace, "a")
    assert found is not None
    assert found["spec"]["replicas"] == 1


def test_force_takes_a_field_from_its_owner(api: Api) -> None:
    api.kube.apply(api.deployment(replicas=1), manager="m")
    api.kube.apply(api.deployment(replicas=2), manager="other", force=True)
    with pytest.raises(Owned):
        api.kube.apply(api.deployment(replicas=3), manager="m")


def test_a_field_that_is_no_more_given_can_be_taken_by_another(api: Api) -> None:
    """So replicas go over to an autoscaler: first not given any more, then written by it."""
    api.kube.apply(api.deployment(replicas=3), manager="m")

    def scaled() -> bool:
        thing: Any = api.kube.get(DEPLOYMENT, api.namespace, "a")
        thing["spec"]["replicas"] = 5
        try:
            api.kube.replace(thing, manager="autoscaler")
        except Conflict:  # its controller writes too
            return False
        return True

    wait_until(scaled, deadline_s=10, what="the autoscaler's turn")
    after = api.kube.apply(api.deployment(), manager="m")
    assert after["spec"]["replicas"] == 5


def test_making_by_create_and_changing_by_apply_are_two_owners(api: Api) -> None:
    api.kube.create(api.config(x="1"), manager="m")
    with pytest.raises(Owned):
        api.kube.apply(api.config(x="2"), manager="m")


def test_items_of_a_list_with_keys_have_owners_of_their_own(api: Api) -> None:
    api.kube.apply(api.deployment(), manager="m")
    sidecar = api.deployment()
    sidecar["spec"] = {"template": {"spec": {"containers": [{"name": "sidecar", "image": "sidecar:1"}]}}}
    api.kube.apply(sidecar, manager="other")
    ours = api.deployment()
    ours["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    api.kube.apply(ours, manager="m")
    ours["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "B", "value": "1"}]
    after = api.kube.apply(ours, manager="m")
    containers = after["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in containers] == ["server", "sidecar"]
    assert [each["name"] for each in containers[0]["env"]] == ["B"]


def test_an_apply_at_an_old_version_is_a_conflict_and_changes_nothing(api: Api) -> None:
    old = api.config(x="2")
    old["metadata"]["resourceVersion"] = version(api.kube.apply(api.config(x="1"), manager="m"))
    now = api.kube.apply(api.config(x="3"), manager="m")
    with pytest.raises(Conflict):
        api.kube.apply(old, manager="m")
    assert api.kube.get(CONFIG_MAP, api.namespace, "a") == now


def test_an_apply_at_the_present_version_is_done(api: Api) -> None:
    thing = api.config(x="2")
    thing["metadata"]["resourceVersion"] = version(api.kube.apply(api.config(x="1"), manager="m"))
    assert api.kube.apply(thing, manager="m")["data"] == {"x": "2"}


def test_an_apply_to_what_was_deleted_is_a_conflict_when_it_names_a_version(api: Api) -> None:
    gone: Any = api.kube.apply(api.config(x="1"), manager="m")
    api.kube.delete(CONFIG_MAP, api.namespace, "a")
    with pytest.raises(Conflict):
        api.kube.apply(gone, manager="m")
    assert api.kube.get(CONFIG_MAP, api.namespace, "a") is None


def test_an_empty_object_in_an_apply_takes_nothing_away(api: Api) -> None:
    api.kube.apply(api.deployment(strategy={"rollingUpdate": {"maxSurge": 1}}), manager="m")
    after = api.kube.apply(api.deployment(strategy={}), manager="other")
    assert after["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1


def test_a_list_without_keys_belongs_to_one_manager_as_a_whole(api: Api, request: pytest.FixtureRequest) -> None:
    """So the weights of a route cannot be shared: they stand in its rules."""
    if api.real:
        request.getfixturevalue("cluster").needs(HTTP_ROUTE)
    api.kube.apply(api.route(a=95, b=5), manager="m")
    with pytest.raises(Owned, match="rules"):
        api.kube.apply(api.route(a=0, b=100), manager="other")
    hosts = api.route()
    hosts["spec"] = {"hostnames": ["a.example"]}
    api.kube.apply(hosts, manager="other")
    after = api.kube.apply(api.route(a=50, b=50), manager="m")
    backends = after["spec"]["rules"][0]["backendRefs"]
    assert [(each["name"], each["weight"]) for each in backends] == [("a", 50), ("b", 50)]
    assert after["spec"]["hostnames"] == ["a.example"]


# replace


def test_a_replace_writes_the_whole_object_at_its_version(api: Api) -> None:
    thing: Any = api.kube.create(api.config(labels={"a": "1"}, x="1"), manager="m")
    thing["data"] = {"y": "1"}
    after = api.kube.replace(thing, manager="m")
    assert after["data"] == {"y": "1"}
    assert after["metadata"]["labels"] == {"a": "1"}
    thing["data"] = {"z": "1"}
    with pytest.raises(Conflict):
        api.kube.replace(thing, manager="m")


def test_a_replace_of_what_is_gone_is_a_conflict(api: Api) -> None:
    thing = api.kube.create(api.config(x="1"), manager="m")
    api.kube.delete(CONFIG_MAP, api.namespace, "a")
    with pytest.raises(Conflict):
        api.kube.replace(thing, manager="m")


def test_one_of_two_who_replace_at_the_same_version_wins(api: Api) -> None:
    """How a Lease is held: the loser is told."""
    lease = api.named("coordination.k8s.io/v1", "Lease", "leader", spec={"holderIdentity": ""})
    free: Any = api.kube.create(lease, manager="m")
    won: list[str] = []

    def hold(who: str) -> None:
        mine = deepcopy(free)
        mine["spec"]["holderIdentity"] = who
        try:
            api.kube.replace(mine, manager="m")
        except Conflict:
            return
        won.append(who)

    threads = [threading.Thread(target=hold, args=(f"p{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = api.kube.get(LEASE, api.namespace, "leader")
    assert found is not None
    assert [found["spec"]["holderIdentity"]] == won


# status and generation


def test_status_is_written_apart_and_the_spec_with_it_is_ignored(api: Api) -> None:
    made: Any = api.kube.create({**api.wish(), "status": {"rollout": "early"}}, manager="m")
    assert "status" not in made
    made["status"], made["spec"]["paused"] = {"rollout": "digits-00001"}, True
    after = api.kube.replace(made, manager="m", subresource="status")
    assert after["status"] == {"rollout": "digits-00001"}
    assert not after["spec"].get("paused")


def test_a_spec_is_written_apart_and_the_status_with_it_is_ignored(api: Api) -> None:
    made: Any = api.kube.create(api.wish(), manager="m")
    made["status"] = {"rollout": "digits-00001"}
    made = api.kube.replace(made, manager="m", subresource="status")
    made["status"], made["spec"]["paused"] = {"rollout": "digits-00002"}, True
    after = api.kube.replace(made, manager="m")
    assert after["status"] == {"rollout": "digits-00001"}
    assert after["spec"]["paused"] is True


def test_status_is_applied_apart(api: Api) -> None:
    api.kube.apply(api.wish(), manager="m")
    status = {**api.wish(), "status": {"rollout": "digits-00001"}}
    after = api.kube.apply(status, manager="m", subresource="status")
    assert after["status"] == {"rollout": "digits-00001"}
    assert after["metadata"]["generation"] == 1
    with pytest.raises(Conflict):
        api.kube.apply({**api.wish("gone"), "status": {}}, manager="m", subresource="status")


def test_the_generation_counts_changes_of_the_spec_only(api: Api) -> None:
    made: Any = api.kube.create(api.wish(), manager="m")
    made["metadata"]["labels"] = {"a": "1"}
    labelled: Any = api.kube.replace(made, manager="m")
    labelled["status"] = {"rollout": "digits-00001"}
    observed: Any = api.kube.replace(labelled, manager="m", subresource="status")
    observed["spec"]["paused"] = True
    changed = api.kube.replace(observed, manager="m")
    assert [each["metadata"]["generation"] for each in (made, labelled, observed, changed)] == [1, 1, 1, 2]


def test_a_replace_of_what_is_so_keeps_its_version(api: Api) -> None:
    made = api.kube.create(api.wish(), manager="m")
    assert api.kube.replace(made, manager="m") == made


# watch


def test_a_watch_tells_what_happened_after_a_list_in_order(api: Api) -> None:
    api.kube.create(api.config("before"), manager="m")
    since = api.kube.list(CONFIG_MAP, namespace=api.namespace, labels={"app": "a"}).resource_version
    api.kube.apply(api.config("a", labels={"app": "a"}, x="1"), manager="m")
    api.kube.apply(api.config("b", labels={"app": "a"}, x="1"), manager="m")
    api.kube.apply(api.config("a", labels={"app": "a"}, x="2"), manager="m")
    api.kube.delete(CONFIG_MAP, api.namespace, "a")
    told = api.changes(since, 4, labels={"app": "a"})
    assert [(each.type, each.object["metadata"]["name"]) for each in told] == [
        ("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a"),
    ]  # fmt: skip
    assert [each.object["data"]["x"] for each in told] == ["1", "1", "2", "2"]
    versions = [int(version(each.object)) for each in told]
    assert versions == sorted(versions)
    assert all("managedFields" not in each.object["metadata"] for each in told)


def test_a_watch_goes_on_from_any_version_that_it_told(api: Api) -> None:
    since = api.kube.list(CONFIG_MAP, namespace=api.namespace).resource_version
    for name in ("a", "b", "c"):
        api.kube.apply(api.config(name, labels={"app": "a"}), manager="m")
    first = api.changes(since, 1, labels={"app": "a"})
    rest = api.changes(version(first[0].object), 2, labels={"app": "a"})
    assert [each.object["metadata"]["name"] for each in (*first, *rest)] == ["a", "b", "c"]


def test_an_object_enters_and_leaves_a_watch_with_its_labels(api: Api) -> None:
    since = api.kube.list(CONFIG_MAP, namespace=api.namespace).resource_version
    api.kube.apply(api.config("a"), manager="m")
    api.kube.apply(api.config("a", labels={"app": "a"}), manager="m")
    api.kube.apply(api.config("a", labels={"app": "b"}), manager="m")
    told = api.changes(since, 2, labels={"app": "a"})
    assert [each.type for each in told] == ["ADDED", "DELETED"]


def test_a_watch_ends_at_its_deadline(api: Api) -> None:
    since = api.kube.list(CONFIG_MAP, namespace=api.namespace).resource_version
    watch = api.kube.watch(CONFIG_MAP, namespace=api.namespace, resource_version=since, deadline_s=1)
    assert [each for each in watch if each.type != "BOOKMARK" and "root" not in each.object["metadata"]["name"]] == []


def test_a_watch_sees_what_happens_while_it_waits(api: Api) -> None:
    since = api.kube.list(CONFIG_MAP, namespace=api.namespace).resource_version
    watch = api.kube.watch(
        CONFIG_MAP, namespace=api.namespace, resource_version=since, deadline_s=20, labels={"app": "a"}
    )
    later = threading.Timer(0.1, lambda: api.kube.create(api.config("a", labels={"app": "a"}), manager="m"))
    later.start()
    told = next(each for each in watch if each.type != "BOOKMARK")
    later.join()
    assert (told.type, told.object["metadata"]["name"]) == ("ADDED", "a")


def test_a_watch_from_a_forgotten_version_is_expired(api: Api) -> None:
    for name in ("a", "b"):
        api.kube.create(api.wish(name), manager="m")
    if isinstance(api.kube, FakeKube):
        api.kube.compact()
    with pytest.raises(Expired):  # at version 1, a real server has not heard of the kind yet
        list(api.kube.watch(MODEL_DEPLOYMENT, namespace=api.namespace, resource_version="1", deadline_s=2))


# delete


def test_what_was_deleted_is_gone(api: Api) -> None:
    api.kube.create(api.config(), manager="m")
    api.kube.delete(CONFIG_MAP, api.namespace, "a")
    assert api.kube.get(CONFIG_MAP, api.namespace, "a") is None


def test_a_delete_at_an_old_version_or_of_another_object_is_a_conflict(api: Api) -> None:
    old = api.kube.apply(api.config(x="1"), manager="m")
    now = api.kube.apply(api.config(x="2"), manager="m")
    with pytest.raises(Conflict):
        api.kube.delete(CONFIG_MAP, api.namespace, "a", resource_version=version(old))
    with pytest.raises(Conflict):
        api.kube.delete(CONFIG_MAP, api.namespace, "a", uid="another")
    api.kube.delete(CONFIG_MAP, api.namespace, "a", resource_version=version(now), uid=now["metadata"]["uid"])
    assert api.kube.get(CONFIG_MAP, api.namespace, "a") is None


def test_what_an_object_owns_goes_with_it(api: Api) -> None:
    if not api.collects:
        pytest.skip("no garbage collector runs here")
    owner = api.kube.create(api.wish(), manager="m")
    for name in ("a", "b"):
        owned = api.config(name)
        owned["metadata"]["ownerReferences"] = [owner_reference(owner)]
        api.kube.apply(owned, manager="m")
    api.kube.create(api.config("free"), manager="m")
    api.kube.delete(MODEL_DEPLOYMENT, api.namespace, "digits")
    wait_until(_all_gone(api, "a", "b"), deadline_s=60, what="the end of what it owned")
    assert api.kube.get(CONFIG_MAP, api.namespace, "free") is not None


def test_what_is_made_for_an_owner_that_is_gone_does_not_stay(api: Api) -> None:
    if not api.collects:
        pytest.skip("no garbage collector runs here")
    owner = api.kube.create(api.wish(), manager="m")
    api.kube.delete(MODEL_DEPLOYMENT, api.namespace, "digits")
    late = api.config()
    late["metadata"]["ownerReferences"] = [owner_reference(owner)]
    api.kube.apply(late, manager="m")
    wait_until(_all_gone(api, "a"), deadline_s=60, what="the end of the orphan")


def test_a_finalizer_holds_an_object_until_it_is_taken_away(api: Api) -> None:
    held = api.config()
    held["metadata"]["finalizers"] = ["modelyard.dev/test"]
    api.kube.create(held, manager="m")
    api.kube.delete(CONFIG_MAP, api.namespace, "a")
    found: Any = api.kube.get(CONFIG_MAP, api.namespace, "a")
    assert found["metadata"]["deletionTimestamp"]
    found["metadata"]["finalizers"] = []
    api.kube.replace(found, manager="m")
    assert api.kube.get(CONFIG_MAP, api.namespace, "a") is None


def _all_gone(api: Api, *names: str) -> Callable[[], bool]:
    return lambda: all(api.kube.get(CONFIG_MAP, api.namespace, name) is None for name in names)


# what is refused


def test_a_name_or_label_that_cannot_be_is_refused(api: Api) -> None:
    with pytest.raises(Refused):
        api.kube.create(api.config("Not a name"), manager="m")
    with pytest.raises(Refused):
        api.kube.apply(api.config(labels={"app": "a" * 64}), manager="m")
    assert api.kube.apply(api.config(labels={"app": "a" * 63}), manager="m")["metadata"]["name"] == "a"


def test_a_kind_that_is_not_installed_is_told_from_an_object_that_is_not_there(api: Api) -> None:
    assert api.kube.get(MODEL_DEPLOYMENT, api.namespace, "a") is None
    absent = api.named(GATEWAY.api_version, "Gateway", "a", spec={})
    for attempt in (
        lambda: api.kube.get(GATEWAY, api.namespace, "a"),
        lambda: api.kube.list(GATEWAY, namespace=api.namespace),
        lambda: list(api.kube.watch(GATEWAY, resource_version="1", deadline_s=1)),
        lambda: api.kube.apply(absent, manager="m"),
        lambda: api.kube.create(absent, manager="m"),
        lambda: api.kube.delete(GATEWAY, api.namespace, "a"),
    ):
        with pytest.raises(NotInstalled, match="Gateway"):
            attempt()
