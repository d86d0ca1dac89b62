"""Watches tell what happened, in order, after a list. Nobody watches from what a cache listed."""

import threading

import pytest
from tests.contract.kubes import SERVER, Api, version
from tests.fakes.cluster import FakeKube

from modelyard.errors import Expired
from modelyard.kube.port import CONFIG_MAP, MODEL_DEPLOYMENT

pytestmark = pytest.mark.parametrize("api", ["memory", SERVER], indirect=True)


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
