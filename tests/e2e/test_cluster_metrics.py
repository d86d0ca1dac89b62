"""Prometheus on the cluster: it is the evidence of a canary, goes away meanwhile, and has what dashboards ask for.

Part of `make e2e`, after the smoke run and under the same traffic.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.cluster import prometheus, stage
from tests.e2e.cluster.prometheus import Prometheus
from tests.e2e.cluster.site import METRICS, SYSTEM, Site
from tests.e2e.cluster.stage import Timed
from tests.e2e.cluster.traffic import Traffic
from tests.e2e.cluster.versions import Versions

pytestmark = [pytest.mark.process, pytest.mark.timeout(1800)]
AWAY_S = 60.0
QUIET = ("modelyard_operator_api_errors_total", 'phase="Failed"', "phase!~")
"""In queries that have no answer while all is well and nothing is under way."""


@pytest.fixture(scope="module")
def observed(site: Site, timed: Timed, traffic: Traffic) -> Iterator[Prometheus]:
    """Prometheus, and an operator that takes its evidence from there."""
    with timed.part("Prometheus"):
        found = prometheus.install(site)
    stage.install_modelyard(site, operator={"prometheus": prometheus.URL})
    yield found
    stage.install_modelyard(site)


def test_prometheus_finds_the_operator_the_servers_and_the_gateway(observed: Prometheus, site: Site) -> None:
    def found() -> bool:
        targets = observed.targets()
        health = {each for job in targets.values() for each in job}
        return counted(targets, site) == {"operators": 2, "servers": 2, "proxies": 1} and health == {"up"}

    site.wait(found, f"every target: {observed.targets()}", deadline_s=90)


def test_a_canary_is_judged_by_what_prometheus_counted(
    observed: Prometheus, site: Site, timed: Timed, versions: Versions, traffic: Traffic
) -> None:
    began, version = time.monotonic(), stage.other(site)
    with timed.part("a canary judged by Prometheus, from alias to verdict"):
        versions.promote(version)
        attempt = site.wait(lambda: site.ended(version), "the canary judged", deadline_s=600)

    assert attempt["status"]["verdict"]["outcome"] == "Successful", attempt["status"]
    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_while_prometheus_is_away_nothing_is_promoted_and_a_condition_says_why(
    observed: Prometheus, site: Site, timed: Timed, versions: Versions, traffic: Traffic
) -> None:
    began, stable, version = time.monotonic(), site.live(), stage.other(site)
    versions.promote(version)
    site.wait(lambda: traffic.versions(began)[version], "an answer of the canary")
    with timed.part("Prometheus away"):
        stage.scale(site, METRICS, "prometheus", 0)
        site.wait(lambda: unseen(site), "the condition", deadline_s=90)
        time.sleep(AWAY_S)
        assert "no counters" in unseen(site)
        assert site.ended(version) is None
        assert site.live() == stable
    with timed.part("Prometheus back until the canary is promoted"):
        stage.scale(site, METRICS, "prometheus", 1)
        site.wait(lambda: not unseen(site), "the condition gone", deadline_s=90)
        attempt = site.wait(lambda: site.ended(version), "the canary judged", deadline_s=600)

    assert attempt["status"]["verdict"]["outcome"] == "Successful", attempt["status"]
    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_every_query_of_the_dashboards_has_an_answer(observed: Prometheus, site: Site, timed: Timed) -> None:
    """Each series that a panel draws is there, under the labels by which the panel selects and groups it."""
    boards = [json.loads(text) for each in site.items("configmap", "-n", SYSTEM, "-l", "grafana_dashboard=1")
              for text in each["data"].values()]  # fmt: skip
    queries = [query for board in boards for query in asked(board)]
    loud = [query for query in queries if not any(name in query for name in QUIET)]
    site.wait(lambda: all(map(observed.ask, loud)), "an answer to each query", deadline_s=120)
    assert len(loud) >= 20
    timed.facts["queries of dashboards that Prometheus answered"] = f"{len(loud)} of {len(queries)}"


def test_every_alert_can_be_evaluated_and_none_fires_that_should_not(observed: Prometheus, site: Site) -> None:
    alerts = observed.alerts()
    assert len(alerts) >= 9
    assert all(said.startswith("ok") for said in alerts.values()), alerts
    firing = {name for name, said in alerts.items() if said == "ok firing"}
    assert not firing, alerts


def counted(targets: dict[str, list[str]], site: Site) -> dict[str, int]:
    """How many of each kind are scraped."""
    names = {"modelyard-operator": "operators", "arms": "servers", "proxies": "proxies"}
    return {names.get(job, job): len(health) for job, health in targets.items()}


def unseen(site: Site) -> str:
    """What the condition says of counters that are missing; empty while it says nothing."""
    (said,) = (each for each in site.status()["conditions"] if each["type"] == "Progressing")
    return str(said["message"]) if said["reason"] == "NoEvidence" else ""


def asked(board: dict[str, Any]) -> list[str]:
    """The queries of a dashboard with every variable open."""
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return [query.replace("$namespace", ".*").replace("$deployment", ".*") for query in found]
