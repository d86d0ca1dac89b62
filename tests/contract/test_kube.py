"""What a Kubernetes API does; held against the one in memory, a real API server, and a cache before either.

Every world that the operator is tested in stands on the first, so it must not differ from the second where we would
notice. https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from tests.contract.kubes import SERVER, Api, version

from modelyard.errors import Conflict, NotInstalled, Refused
from modelyard.kube.metadata import owner_reference
from modelyard.kube.port import CONFIG_MAP, GATEWAY, LEASE, MODEL_DEPLOYMENT
from modelyard.processes import wait_until

TOLD = pytest.mark.parametrize("api", ["memory", SERVER], indirect=True)
"""Others act here: a cache would have to be told."""


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

    def names(**labels: str | None) -> list[str]:
        found = api.kube.list(CONFIG_MAP, namespace=api.namespace, labels=labels).items
        assert all(each["kind"] == "ConfigMap" and each["apiVersion"] == "v1" for each in found)
        return [each["metadata"]["name"] for each in found if each["metadata"]["name"] != "kube-root-ca.crt"]

    assert names() == ["b", "c", "d"]
    assert names(app="a") == ["b", "c"]
    assert names(app="a", tier="x") == ["c"]
    assert names(app="c") == []
    assert names(tier=None) == ["c"], "whatever its value"
    everywhere = api.kube.list(CONFIG_MAP, labels={"app": "b"}).items
    assert (api.namespace, "d") in {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in everywhere}


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


@TOLD
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


@TOLD
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
