"""Weights as an HTTPRoute, over a Kubernetes API in memory: what is asked, and when it is believed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.cluster import FakeKube
from tests.fakes.controllers import Controllers
from tests.unit.rollout_cluster import wishes
from tests.unit.rollout_cluster.wishes import spec_of

from modelyard.errors import BadInput, Conflict, Forbidden, NotInstalled
from modelyard.kube.port import BACKEND_TRAFFIC_POLICY, DEPLOYMENT, HTTP_ROUTE, MODEL_DEPLOYMENT, Kind
from modelyard.rollout.cluster import confirm
from modelyard.rollout.cluster.render import object_name
from modelyard.rollout.cluster.router import RouteRouter
from modelyard.rollout.observation import Counts, Weights
from modelyard.spec.codec import to_data
from modelyard.spec.deployment import DeploymentSpec, ParentRef
from modelyard.units import Duration

KEY = "vision/digits"
GATES = replace(spec_of(wishes.PLAIN).traffic, parent_refs=(ParentRef(name="public", namespace="infra"),))
SPEC = replace(spec_of(wishes.PLAIN), traffic=GATES)


class Traffic:
    """Counters that a test moves."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.asked = 0

    def counts(self, key: str) -> Mapping[str, Counts]:
        self.asked += 1
        return {arm: Counts(at=0.0, requests=count, errors=0) for arm, count in self.requests.items()}


class Town:
    """A cluster with a gateway, and arms a and b of each deployment."""

    def __init__(self, *, absent: tuple[Kind, ...] = ()) -> None:
        self.now = 0.0
        self.kube = FakeKube(absent=absent)
        self.controllers = Controllers(self.kube)
        self.traffic = Traffic()
        self.router = RouteRouter(self.kube, self.traffic, clock=lambda: self.now)
        self.deploy("digits", SPEC)

    def deploy(self, name: str, spec: DeploymentSpec) -> None:
        self.apply(MODEL_DEPLOYMENT, name, spec=to_data(spec))
        for arm in ("a", "b"):
            self.apply(DEPLOYMENT, object_name(name, arm), spec={"template": {"metadata": {"labels": {}}, "spec": {}}})

    def apply(self, kind: Kind, name: str, **rest: Any) -> None:
        about = {"name": name, "namespace": "vision"}
        thing = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, **rest}
        self.kube.apply(thing, manager="kubectl", force=True)

    def ask(self, **weights: int) -> None:
        version = self.router.weights(KEY).resource_version
        self.router.set_weights(KEY, weights, expected=version)
        self.controllers.settle()

    def look(self, seconds: float = 0.5, **requests: int) -> Weights:
        """Time passes, requests come, and somebody looks."""
        self.now += seconds
        for arm, count in requests.items():
            self.traffic.requests[arm] = self.traffic.requests.get(arm, 0) + count
        return self.router.weights(KEY)

    def believe(self, **weights: int) -> None:
        self.ask(**weights)
        for _ in range(30):
            if self.look().confirmed == weights:
                return
        raise AssertionError("never believed")

    @property
    def route(self) -> Any:
        return self.kube.get(HTTP_ROUTE, "vision", "digits")


@pytest.fixture
def town() -> Town:
    return Town()


def test_a_gateway_that_said_nothing_yet_is_not_believed(town: Town) -> None:
    """A weight was taken as applied without reading it back (Argo Rollouts #701)."""
    town.controllers.gateway = False
    town.ask(a=100)
    assert town.look(60).confirmed is None
    town.controllers.gateway = True
    town.controllers.settle()
    assert town.look().confirmed == {"a": 100}


@pytest.mark.parametrize("spoil", ["Accepted", "ResolvedRefs", "generation", "parent"])
def test_a_gateway_that_accepted_something_else_is_not_believed(town: Town, spoil: str) -> None:
    town.ask(a=100)
    route = town.route
    (parent,) = route["status"]["parents"]
    if spoil == "parent":
        parent["parentRef"] = {**parent["parentRef"], "name": "another"}
    for condition in parent["conditions"]:
        if condition["type"] == spoil:
            condition["status"] = "False"
        if spoil == "generation":
            condition["observedGeneration"] -= 1
    town.kube.replace(route, manager="gateway", subresource="status")
    assert town.look(60).confirmed is None


def test_until_the_counters_agree_the_weights_before_are_what_is_in_force(town: Town) -> None:
    town.believe(a=100)
    town.ask(a=50, b=50)
    for _ in range(6):
        assert town.look(a=100).confirmed == {"a": 100}  # the data plane has not heard of it yet
    town.look(a=50, b=50)
    assert town.look(a=50, b=50).confirmed == {"a": 50, "b": 50}


def test_an_arm_at_zero_must_stand_still(town: Town) -> None:
    town.believe(a=50, b=50)
    town.ask(a=100, b=0)
    for _ in range(6):
        assert town.look(a=50, b=3).confirmed == {"a": 50, "b": 50}
    town.look(a=50)
    assert town.look(0.6, a=50).confirmed == {"a": 100, "b": 0}


def test_without_traffic_the_gateway_s_word_is_taken_after_a_while(town: Town) -> None:
    town.believe(a=100)
    town.ask(a=95, b=5)
    assert town.look().confirmed == {"a": 100}
    assert town.look(confirm.PATIENCE_S).confirmed == {"a": 95, "b": 5}


def test_weights_that_are_believed_ask_no_counters_any_more(town: Town) -> None:
    town.believe(a=100)
    before = town.traffic.asked
    town.look()
    assert town.traffic.asked == before


def test_who_starts_anew_believes_nothing_before_it_has_seen_it(town: Town) -> None:
    town.believe(a=50, b=50)
    again = RouteRouter(town.kube, town.traffic, clock=lambda: town.now)
    assert again.weights(KEY).confirmed is None
    assert dict(again.weights(KEY).asked) == {"a": 50, "b": 50}


def test_a_route_of_somebody_else_is_taken_over_only_when_asked(town: Town) -> None:
    rules = [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]
    town.apply(HTTP_ROUTE, "digits", spec={"parentRefs": [{"name": "old"}], "rules": rules})
    assert town.router.weights(KEY) == Weights(confirmed={})
    with pytest.raises(BadInput, match=r"HTTPRoute vision/digits exists and is not ours.*traffic\.adopt: true"):
        town.router.set_weights(KEY, {"a": 100}, expected="")
    assert town.route["spec"]["rules"] == rules
    town.deploy("digits", replace(SPEC, traffic=replace(GATES, adopt=True)))
    town.router.set_weights(KEY, {"a": 100}, expected="")
    assert dict(town.router.weights(KEY).asked) == {"a": 100}
    assert [one["name"] for one in town.route["spec"]["parentRefs"]] == ["public"]


def test_two_deployments_that_claim_the_same_requests_are_told_of_each_other(town: Town) -> None:
    town.ask(a=100)
    town.deploy("twin", SPEC)
    with pytest.raises(BadInput, match=r"vision/digits already answers at .*infra/public.*digits:predict"):
        town.router.set_weights("vision/twin", {"a": 100}, expected="")
    town.deploy("twin", replace(SPEC, traffic=replace(GATES, hostnames=("twin.example.com",))))
    town.router.set_weights("vision/twin", {"a": 100}, expected="")


def test_a_wish_without_a_gateway_says_what_is_missing(town: Town) -> None:
    town.deploy("digits", spec_of(wishes.PLAIN))
    with pytest.raises(BadInput, match=r"names no gateway.*Give traffic\.parentRefs"):
        town.router.set_weights(KEY, {"a": 100}, expected="")


def test_without_the_gateway_api_nothing_is_believed_and_the_missing_kind_is_named() -> None:
    town = Town(absent=(HTTP_ROUTE,))
    assert town.router.weights(KEY) == Weights(confirmed=None)
    town.router.keep(KEY, SPEC)
    with pytest.raises(NotInstalled, match=r"(?i)httproute"):
        town.router.set_weights(KEY, {"a": 100}, expected="")


def test_without_envoy_gateway_s_policy_the_route_is_there_and_the_way_out_is_said() -> None:
    town = Town(absent=(BACKEND_TRAFFIC_POLICY,))
    with pytest.raises(NotInstalled, match=r"traffic\.gateway: Other"):
        town.router.set_weights(KEY, {"a": 100}, expected="")
    assert dict(town.router.weights(KEY).asked) == {"a": 100}
    other = replace(SPEC, traffic=replace(GATES, gateway="Other"))
    town.router.keep(KEY, other)
    writes = town.kube.writes
    town.router.keep(KEY, other)
    assert town.kube.writes == writes


def test_rights_that_are_missing_make_the_route_unreadable_not_empty(town: Town) -> None:
    def forbid(call: Any) -> None:
        if call.kind == HTTP_ROUTE:
            raise Forbidden("may not get httproutes", do="grant it")

    town.ask(a=100)
    town.kube.before = forbid
    assert town.router.weights(KEY).confirmed is None


def test_what_the_wish_says_of_traffic_follows_at_once_and_the_weights_stay(town: Town) -> None:
    town.ask(a=95, b=5)
    longer = replace(SPEC, traffic=replace(GATES, timeout=Duration("30s"), retries=3, hostnames=("d.example.com",)))
    town.router.keep(KEY, longer)
    route, policy = town.route, town.kube.get(BACKEND_TRAFFIC_POLICY, "vision", "digits")
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "30s"}
    assert route["spec"]["hostnames"] == ["d.example.com"]
    assert policy is not None
    assert policy["spec"]["retry"]["numRetries"] == 3
    assert dict(town.router.weights(KEY).asked) == {"a": 95, "b": 5}
    writes = town.kube.writes
    town.router.keep(KEY, longer)
    assert town.kube.writes == writes


def test_a_change_of_the_route_since_it_was_read_is_a_conflict_and_a_status_is_none(town: Town) -> None:
    town.ask(a=100)
    version = town.router.weights(KEY).resource_version
    town.router.set_weights(KEY, {"a": 95, "b": 5}, expected=version)
    with pytest.raises(Conflict):
        town.router.set_weights(KEY, {"a": 0, "b": 100}, expected=version)


def test_what_a_gateway_writes_in_between_is_no_conflict(town: Town) -> None:
    town.router.set_weights(KEY, {"a": 100}, expected="")

    def meanwhile(call: Any) -> None:
        if call.verb == "apply" and call.kind == HTTP_ROUTE:
            town.kube.before = lambda _call: None
            town.controllers.settle()

    version = town.router.weights(KEY).resource_version
    town.kube.before = meanwhile
    town.router.set_weights(KEY, {"a": 95, "b": 5}, expected=version)
    assert dict(town.router.weights(KEY).asked) == {"a": 95, "b": 5}


def test_arms_keep_their_place_so_that_the_gateway_s_counters_keep_their_meaning(town: Town) -> None:
    town.ask(b=100)
    town.ask(a=5, b=95)
    assert list(town.router.weights(KEY).asked) == ["b", "a"]


@pytest.mark.parametrize(
    ("seen", "total", "weight", "believed"),
    [(50, 1000, 5, True), (500, 1000, 5, False), (0, 1000, 5, False), (0, 20, 5, True), (5, 100, 50, False)],
)
def test_a_share_is_explained_by_its_weight_or_not(seen: int, total: int, weight: int, believed: bool) -> None:
    assert confirm.explained(seen, total, weight) is believed
