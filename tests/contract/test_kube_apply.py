"""Server-side apply: who owns which field, and what becomes of a field that nobody gives any more.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from typing import Any

import pytest
from tests.contract.kubes import Api, version

from modelyard.errors import Conflict, Owned
from modelyard.kube.port import CONFIG_MAP, DEPLOYMENT, HTTP_ROUTE
from modelyard.processes import wait_until


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
