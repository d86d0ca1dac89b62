"""What many processes count, as one counter for each arm."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.cluster import FakeKube
from tests.unit.rollout_cluster import wishes
from tests.unit.rollout_cluster.wishes import owner, spec_of

from modelyard.errors import Unavailable
from modelyard.kube.port import POD, Kind
from modelyard.rollout.cluster.counters import EnvoyCounters, PodCounters, PrometheusCounters, of_envoy, parsed
from modelyard.rollout.cluster.ledger import Ledger, Reading
from modelyard.rollout.cluster.render import selector
from modelyard.rollout.cluster.render_route import http_route
from modelyard.serving.tally import Tally

KEY = "vision/digits"
GATEWAY = {
    "gateway.envoyproxy.io/owning-gateway-namespace": "infra",
    "gateway.envoyproxy.io/owning-gateway-name": "public",
}


class Fleet:
    """Pods, and what is read at their addresses."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.kube.garbage_collector = False  # the routes of these tests have no owner
        self.texts: dict[str, str] = {}

    def put(self, kind: Kind, name: str, namespace: str, labels: Mapping[str, str], **rest: Any) -> None:
        about = {"name": name, "namespace": namespace, "labels": dict(labels)}
        self.kube.apply({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, **rest}, manager="test")

    def pod(self, name: str, address: str, labels: Mapping[str, str], *, namespace: str = "vision") -> None:
        self.put(POD, name, namespace, labels, spec={})
        found = self.kube.get(POD, namespace, name)
        assert found is not None
        status = {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
        self.kube.replace({**found, "status": status}, manager="test", subresource="status")

    def scrape(self, url: str) -> str:
        if url not in self.texts:
            raise Unavailable(f"{url} is away", do="wait")
        return self.texts[url]


def told(**codes: int) -> str:
    tally = Tally()
    for code, count in codes.items():
        for _ in range(count):
            tally.ended(int(code[1:]), 0.01)
    return tally.text({})


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


# pods


def test_pods_of_an_arm_are_added_up_and_arms_kept_apart(fleet: Fleet) -> None:
    for name, address, arm in (("x", "10.0.0.1", "a"), ("y", "10.0.0.2", "a"), ("z", "10.0.0.3", "b")):
        fleet.pod(name, address, selector("digits", arm))
    fleet.texts = {
        "http://10.0.0.1:8081/metrics": told(c200=5, c500=1),
        "http://10.0.0.2:8081/metrics": told(c200=3, c400=1),
        "http://10.0.0.3:8081/metrics": told(c200=1),
    }
    counts = PodCounters(fleet.kube, fleet.scrape, clock=lambda: 7.0).counts(KEY)
    assert (counts["a"].requests, counts["a"].errors, counts["a"].latency[-1], counts["a"].at) == (10, 2, 9, 7.0)
    assert (counts["b"].requests, counts["b"].errors) == (1, 0)
    assert max(b / a for a, b in zip(counts["a"].bounds, counts["a"].bounds[1:], strict=False)) <= 1.05


def test_an_arm_of_which_one_pod_is_silent_is_missing_not_half(fleet: Fleet) -> None:
    """An empty answer raised an index error, and missing data passed (Argo Rollouts #1466, #4479)."""
    fleet.pod("x", "10.0.0.1", selector("digits", "a"))
    fleet.pod("y", "10.0.0.2", selector("digits", "a"))
    fleet.texts = {"http://10.0.0.1:8081/metrics": told(c200=5)}
    counters = PodCounters(fleet.kube, fleet.scrape)
    assert counters.counts(KEY) == {}
    fleet.texts["http://10.0.0.2:8081/metrics"] = told(c200=4)
    assert counters.counts(KEY)["a"].requests == 9


def test_a_container_that_began_anew_and_a_pod_that_is_gone_take_nothing_back(fleet: Fleet) -> None:
    fleet.pod("x", "10.0.0.1", selector("digits", "a"))
    fleet.pod("y", "[fd00::2]".strip("[]"), selector("digits", "a"))
    counters = PodCounters(fleet.kube, fleet.scrape)
    at_x, at_y = "http://10.0.0.1:8081/metrics", "http://[fd00::2]:8081/metrics"
    fleet.texts = {at_x: told(c200=5), at_y: told(c200=10)}
    assert counters.counts(KEY)["a"].requests == 15
    fleet.texts = {at_x: told(c200=2), at_y: told(c200=11)}
    assert counters.counts(KEY)["a"].requests == 18
    fleet.kube.delete(POD, "vision", "x")
    assert counters.counts(KEY)["a"].requests == 18
    fleet.kube.delete(POD, "vision", "y")
    assert counters.counts(KEY) == {}


# the router


ROUTE = "httproute/vision/digits/rule/0"
ENVOY = """# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="ROUTE/backend/0"} 90
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="ROUTE/backend/0"} 4
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="ROUTE/backend/1"} 5
envoy_cluster_upstream_rq_xx{envoy_response_code_class="4",envoy_cluster_name="ROUTE/backend/1"} 1
envoy_cluster_upstream_rq_retry{envoy_cluster_name="ROUTE/backend/1"} 3
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="httproute/vision/x/rule/0/backend/1"} 9
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="ROUTE/backend/1",le="10"} 2
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="ROUTE/backend/1",le="25"} 5
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="ROUTE/backend/1",le="+Inf"} 6
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="xds_cluster"} 7
""".replace("ROUTE", ROUTE)


def routed(fleet: Fleet, **weights: int) -> None:
    route = http_route(owner(), spec_of(wishes.FULL), weights)
    fleet.kube.apply(route, manager="modelyard")


def test_a_proxy_s_counts_belong_to_the_arm_at_that_place_and_a_retry_is_an_error(fleet: Fleet) -> None:
    """With retries on, clients saw 100 of 100 answers, and only `upstream_rq_retry` moved."""
    routed(fleet, old=95, new=5)
    for number in (1, 2):
        fleet.pod(f"proxy-{number}", f"10.1.0.{number}", GATEWAY, namespace="envoy-gateway-system")
        fleet.texts[f"http://10.1.0.{number}:19001/stats/prometheus"] = ENVOY
    counts = EnvoyCounters(fleet.kube, fleet.scrape).counts(KEY)
    assert (counts["old"].requests, counts["old"].errors) == (188, 8)
    assert (counts["new"].requests, counts["new"].errors) == (18, 8)
    assert (counts["new"].latency, counts["new"].bounds) == ((4, 10, 12), (10.0, 25.0))


def test_an_arm_that_has_two_places_has_what_both_counted(fleet: Fleet) -> None:
    routed(fleet, old=100)
    fleet.pod("proxy-1", "10.1.0.1", GATEWAY, namespace="envoy-gateway-system")
    fleet.texts["http://10.1.0.1:19001/stats/prometheus"] = ENVOY
    counts = EnvoyCounters(fleet.kube, fleet.scrape).counts(KEY)
    assert (counts["old"].requests, counts["old"].errors) == (103, 8)


def test_a_proxy_that_does_not_answer_makes_all_missing(fleet: Fleet) -> None:
    routed(fleet, old=95, new=5)
    fleet.pod("proxy-1", "10.1.0.1", GATEWAY, namespace="envoy-gateway-system")
    assert EnvoyCounters(fleet.kube, fleet.scrape).counts(KEY) == {}


def test_no_route_and_no_proxy_give_no_counts(fleet: Fleet) -> None:
    assert EnvoyCounters(fleet.kube, fleet.scrape).counts(KEY) == {}
    routed(fleet, old=100)
    assert EnvoyCounters(fleet.kube, fleet.scrape).counts(KEY) == {}


def test_a_single_backend_is_counted_too() -> None:
    line = f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="2",envoy_cluster_name="{ROUTE}"}} 9'
    assert of_envoy(list(parsed(line)), KEY)[0].requests == 9


def test_prometheus_says_when_it_last_scraped(fleet: Fleet) -> None:
    routed(fleet, old=95, new=5)
    asked: list[str] = []

    def ask(_url: str, query: str) -> list[dict[str, Any]]:
        asked.append(query)
        return [
            {
                "metric": {"__name__": each.name, "pod": "proxy-1", **each.labels},
                "values": [[90.0, "0"], [100.5, str(int(each.value))]],
            }
            for each in parsed(ENVOY)
        ]

    counts = PrometheusCounters(fleet.kube, "http://prometheus", ask).counts(KEY)
    assert (counts["new"].requests, counts["new"].errors, counts["new"].at) == (9, 4, 100.5)
    assert 'envoy_cluster_name=~"httproute/vision/digits/.*"' in asked[0]


@pytest.mark.parametrize("answer", ["away", "empty"])
def test_a_prometheus_that_is_away_or_knows_nothing_gives_no_counts(fleet: Fleet, answer: str) -> None:
    routed(fleet, old=100)

    def ask(_url: str, _query: str) -> list[dict[str, Any]]:
        if answer == "away":
            raise Unavailable("no answer", do="wait")
        return []

    assert PrometheusCounters(fleet.kube, "http://prometheus", ask).counts(KEY) == {}


# the ledger

BOUNDS = (10.0, 20.0)


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 5), st.booleans()), max_size=40))
def test_totals_are_all_that_happened_whoever_began_anew(events: list[tuple[str, int, bool]]) -> None:
    ledger, running, happened = Ledger(), dict.fromkeys("xyz", 0), 0
    for source, count, restart in events:
        if restart and count < running[source]:
            running[source] = 0
        running[source] += count
        happened += count
        reading = Reading(requests=running[source], errors=0, latency=(running[source],) * 3, bounds=BOUNDS)
        ledger.put((KEY, "a"), source, reading)
        total = ledger.total((KEY, "a"), at=0.0)
        assert total is not None
        assert (total.requests, total.latency) == (happened, (happened,) * 3)
