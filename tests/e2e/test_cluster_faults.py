"""What a cluster does to a deployment that serves: evictions, and parts of the system that are away for a while.

Part of `make e2e`, after the smoke run and under the same traffic.
"""

import json
import time

import psutil
import pytest
from tests.cluster.daemons import ADDRESS
from tests.e2e.cluster import stage
from tests.e2e.cluster.site import ENVOY, STORES, TEAM, Site, is_ready
from tests.e2e.cluster.stage import Timed
from tests.e2e.cluster.traffic import Traffic
from tests.e2e.cluster.versions import Versions

pytestmark = [pytest.mark.process, pytest.mark.timeout(1800)]
AWAY_S = 120.0


def test_one_server_may_be_evicted_and_the_second_is_refused(site: Site, timed: Timed, traffic: Traffic) -> None:
    began = time.monotonic()
    first, second = site.wait(lambda: both(site), "two servers")
    with timed.part("one server evicted until two are ready"):
        evict(site, first)
        with pytest.raises(AssertionError, match="disruption budget"):
            evict(site, second)
        site.wait(lambda: ready_but(site, first) == 2, "two servers")

    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_a_killed_worker_comes_back_and_its_container_goes_on(site: Site, timed: Timed, traffic: Traffic) -> None:
    began, before = time.monotonic(), restarts(site)
    pod = next(each["metadata"]["name"] for each in site.servers() if is_ready(each))
    with timed.part("worker killed until its server is ready"):
        stage.kill(site, TEAM, pod, "model_service_worker")
        site.wait(lambda: not all(map(is_ready, site.servers())), "the loss seen", deadline_s=60)
        site.wait(lambda: all(map(is_ready, site.servers())), "all servers ready")

    assert restarts(site).items() <= before.items()
    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_mlflow_away_for_two_minutes_changes_a_condition_and_nothing_else(
    site: Site, timed: Timed, traffic: Traffic
) -> None:
    began = time.monotonic()
    pod = site.items("pods", "-n", STORES, "-l", "app=mlflow")[0]["metadata"]
    with timed.part("MLflow away until it is said"), stage.suspended(site, pod["uid"], "mlflow"):
        site.wait(lambda: away(site), "the condition", deadline_s=AWAY_S)
        said = site.get("modeldeployment", "digits", "-n", TEAM)["metadata"]["resourceVersion"]
        time.sleep(max(0.0, AWAY_S - (time.monotonic() - began)))
        assert site.get("modeldeployment", "digits", "-n", TEAM)["metadata"]["resourceVersion"] == said
    with timed.part("MLflow back until it is said"):
        site.wait(lambda: not away(site), "the condition gone", deadline_s=60)

    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_a_restarted_api_server_is_no_news_for_clients(site: Site, timed: Timed, traffic: Traffic) -> None:
    if not site.ours:
        pytest.skip("the API server of a cluster that was given is not ours to kill")
    began = time.monotonic()
    with timed.part("API server killed until it answers"):
        mine = [
            each for each in psutil.process_iter(["name", "cmdline"])
            if each.info["name"] == "kube-apiserver" and f"--bind-address={ADDRESS}" in each.info["cmdline"]
        ]  # fmt: skip
        mine[0].kill()
        site.wait(lambda: site.kubectl("get", "nodes", check=False), "the API server", deadline_s=90)
    site.wait(lambda: stage.leader(site), "a leader", deadline_s=90)

    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_while_the_gateways_control_plane_is_away_a_canary_waits(
    site: Site, timed: Timed, versions: Versions, traffic: Traffic
) -> None:
    began, stable, version = time.monotonic(), site.live(), stage.other(site)
    with timed.part("gateway's control plane away"):
        stage.scale(site, ENVOY, "envoy-gateway", 0)
        versions.promote(version)
        site.wait(lambda: asked(site, version), "a share asked for")
        since = time.monotonic()
        site.wait(lambda: len(traffic.answers(since)) > 200, "200 requests more")
        assert set(traffic.versions(began)) == {stable}
        assert site.ended(version) is None
        stage.scale(site, ENVOY, "envoy-gateway", 1)
    with timed.part("gateway's control plane back until the canary is promoted"):
        attempt = site.wait(lambda: site.ended(version), "the canary judged", deadline_s=600)

    assert attempt["status"]["verdict"]["outcome"] == "Successful", attempt["status"]
    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_the_operator_is_upgraded_in_the_middle_of_a_canary(
    site: Site, timed: Timed, versions: Versions, traffic: Traffic
) -> None:
    began, version = time.monotonic(), stage.other(site)
    versions.promote(version)
    site.wait(lambda: traffic.versions(began)[version], "an answer of the canary")
    before, leading = restarts(site), stage.leader(site)
    with timed.part("helm upgrade in mid-canary"):
        assert site.ended(version) is None
        stage.install_modelyard(site, operator={"podAnnotations": {"modelyard.test/run": "upgraded"}})
    attempt = site.wait(lambda: site.ended(version), "the canary judged", deadline_s=600)

    assert attempt["status"]["verdict"]["outcome"] == "Successful", attempt["status"]
    assert stage.leader(site) != leading
    assert all(count == before.get(pod, 0) for pod, count in restarts(site).items())
    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_the_autoscaler_follows_the_load_and_no_request_fails(site: Site, timed: Timed, traffic: Traffic) -> None:
    began = time.monotonic()
    with timed.part("metrics-server"):
        stage.install_metrics(site)
    scaling = {"minReplicas": 2, "maxReplicas": 4, "metric": {"type": "CPU", "cpu": {"averageUtilization": 100}}}
    change = [{"op": "remove", "path": "/spec/replicas"}, {"op": "add", "path": "/spec/autoscaling", "value": scaling}]
    site.kubectl("patch", "modeldeployment", "digits", "-n", TEAM, "--type=json", "-p", json.dumps(change))
    with timed.part("from two servers to four under load"):
        traffic.pace(60.0)
        site.wait(lambda: sum(map(is_ready, site.servers())) == 4, "four servers")
    with timed.part("from four servers to two after it"):
        traffic.pace(2.0)
        site.wait(lambda: len(site.servers()) == 2, "two servers", deadline_s=360)

    assert not traffic.failures(began), traffic.failures(began)[:5]


def asked(site: Site, version: str) -> int:
    """The share that the newest attempt asks for its version."""
    attempt = site.rollouts()[-1]
    shares = (attempt.get("status") or {}).get("weights", {}).get("asked", {})
    return int(shares.get(attempt["spec"]["arm"], 0)) if attempt["spec"]["version"] == version else 0


def both(site: Site) -> tuple[str, ...]:
    """Names of the servers, once they are two, ready both; those of an earlier version may be on their way out."""
    found = tuple(each["metadata"]["name"] for each in site.servers() if is_ready(each))
    return found if len(found) == len(site.servers()) == 2 else ()


def evict(site: Site, pod: str) -> None:
    about = {"name": pod, "namespace": TEAM}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": about}
    path = f"/api/v1/namespaces/{TEAM}/pods/{pod}/eviction"
    site.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))


def restarts(site: Site) -> dict[str, int]:
    """How often each server's container was started anew."""
    return {each["metadata"]["name"]: each["status"]["containerStatuses"][0]["restartCount"] for each in site.servers()}


def ready_but(site: Site, pod: str) -> int:
    return sum(is_ready(each) for each in site.servers() if each["metadata"]["name"] != pod)


def away(site: Site) -> bool:
    said = {each["type"]: each for each in site.status().get("conditions", ())}
    return (said["Degraded"]["status"], said["Degraded"]["reason"]) == ("True", "RegistryUnavailable")
