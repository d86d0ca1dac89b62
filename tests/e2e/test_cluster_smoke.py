"""From `helm install` to a rollback on a real Kubernetes node, under traffic that never pauses.

`make e2e-smoke` runs this, from the first test to the last: each begins where the one before it ended. It needs root
for the node, or a cluster that is there (`docs/e2e.md`). What was measured stands in `tests/e2e/summary.json`.
"""

import time
from pathlib import Path

import pytest
from tests.e2e.cluster import stage
from tests.e2e.cluster.site import SYSTEM, TEAM, Site, is_ready
from tests.e2e.cluster.stage import Timed
from tests.e2e.cluster.traffic import Traffic
from tests.e2e.cluster.versions import Versions

pytestmark = [pytest.mark.process, pytest.mark.timeout(1800)]


def test_the_chart_installs_and_the_operator_is_ready(site: Site, timed: Timed) -> None:
    with timed.part("helm install modelyard"):
        stage.install_modelyard(site)

    site.wait(lambda: stage.leader(site), "a leader")


def test_version_1_goes_live(site: Site, timed: Timed, versions: Versions, traffic: Traffic) -> None:
    with timed.part("version 1 from data to registry"):
        number = versions.register("1")
    site.apply(Path("digits.yaml"))
    with timed.part("version 1 from alias to first answer"):
        versions.promote(number)
        site.wait(lambda: site.live() == number, "version 1 live")
        traffic.start()
        site.wait(lambda: traffic.versions(0.0)[number], "an answer of version 1 through the gateway")
    conditions = {each["type"]: each["status"] for each in site.status()["conditions"]}

    assert conditions["Ready"] == "True", site.status()


def test_version_2_is_canaried_under_traffic_and_promoted(
    site: Site, timed: Timed, versions: Versions, traffic: Traffic
) -> None:
    began = time.monotonic()
    with timed.part("version 2 from data to registry"):
        number = versions.register("2")
    with timed.part("version 2 from alias to verdict"):
        versions.promote(number)
        attempt = site.wait(lambda: site.ended(number), "version 2 judged", deadline_s=600)

    assert attempt["status"]["verdict"]["outcome"] == "Successful", attempt["status"]
    assert site.live() == number
    assert not traffic.failures(began), traffic.failures(began)[:5]
    timed.facts["answers while version 2 came"] = dict(traffic.versions(began))


def test_version_3_is_rolled_back_and_the_alias_restored(
    site: Site, timed: Timed, versions: Versions, traffic: Traffic
) -> None:
    began, stable = time.monotonic(), site.live()
    with timed.part("version 3 from data to registry"):
        number = versions.register("3")
    with timed.part("version 3 from alias to verdict"):
        versions.promote(number)
        attempt = site.wait(lambda: site.ended(number), "version 3 judged", deadline_s=600)

    assert attempt["status"]["verdict"]["outcome"] == "Failed", attempt["status"]
    site.wait(lambda: versions.champion() == stable, "the alias restored", deadline_s=60)
    assert site.live() == stable
    foreign = [each for each in traffic.failures(began) if each.version != number]
    assert not foreign, foreign[:5]
    timed.facts["answers while version 3 came"] = dict(traffic.versions(began))
    timed.facts["failed requests of version 3"] = len(traffic.failures(began))


def test_a_killed_leader_is_replaced_and_no_request_fails(site: Site, timed: Timed, traffic: Traffic) -> None:
    began, before = time.monotonic(), stage.leader(site)
    with timed.part("leader killed until another leads"):
        stage.kill(site, SYSTEM, before, "modelyard-operator")
        site.wait(lambda: stage.leader(site) not in ("", before), "another leader", deadline_s=90)

    site.rolled_out(SYSTEM, "modelyard-operator")
    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_a_killed_server_comes_back_and_no_request_fails(site: Site, timed: Timed, traffic: Traffic) -> None:
    began = time.monotonic()
    pod = next(each for each in site.servers() if is_ready(each))
    with timed.part("server killed until all are ready"):
        stage.kill(site, TEAM, pod["metadata"]["name"], "modelyard.serving.supervisor")
        site.wait(lambda: not all(map(is_ready, site.servers())), "the loss seen", deadline_s=60)
        site.wait(lambda: all(map(is_ready, site.servers())), "all servers ready")

    assert not traffic.failures(began), traffic.failures(began)[:5]
