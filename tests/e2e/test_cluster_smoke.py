"""From `helm install` to a deleted namespace on a real Kubernetes node, under traffic that never pauses.

`make e2e-smoke` runs this, from the first test to the last: each begins where the one before it ended. It needs root
for the node, or a cluster that is there (`tests/e2e/cluster/stage.py`). What was measured stands in
`tests/e2e/summary.json`.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import build
from tests.e2e.cluster import stage
from tests.e2e.cluster.site import STORES, SYSTEM, TEAM, Site, say
from tests.e2e.cluster.stage import Timed
from tests.e2e.cluster.traffic import Traffic
from tests.e2e.cluster.versions import Versions

SUMMARY = Path(__file__).with_name("summary.json")
pytestmark = [pytest.mark.process, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def timed() -> Iterator[Timed]:
    began, made = time.monotonic(), Timed()
    yield made
    made.facts["whole run, seconds"] = round(time.monotonic() - began, 1)
    SUMMARY.write_text(json.dumps({"seconds": made.seconds, **made.facts}, indent=2) + "\n")
    for name, value in (*made.seconds.items(), *made.facts.items()):
        say(f"  {name:<60} {value}")


@pytest.fixture(scope="module")
def site(timed: Timed) -> Iterator[Site]:
    with stage.cluster(timed) as site:
        stage.load_images(site, timed)
        stage.clear(site)
        stage.install_gateway(site, timed)
        stage.install_stores(site, timed)
        yield site


@pytest.fixture(scope="module")
def versions(site: Site, timed: Timed) -> Versions:
    made = Versions(build.cache().parent / "e2e" / "digits")
    s3, mlflow = (site.address(STORES, "--field-selector", f"metadata.name={name}") for name in ("s3", "mlflow"))
    return made.at(f"http://{mlflow}", s3=f"http://{s3}", key="e2e", secret="e2e-secret-key")


@pytest.fixture(scope="module")
def traffic(site: Site, timed: Timed) -> Iterator[Traffic]:
    made = Traffic(stage.gateway_address(site), rps=20.0)
    yield made
    made.stop()


def test_the_chart_installs_and_the_operator_is_ready(site: Site, timed: Timed) -> None:
    stage.install_modelyard(site, timed)

    site.wait(lambda: stage.leader(site), "a leader")


def test_version_1_goes_live(site: Site, timed: Timed, versions: Versions, traffic: Traffic) -> None:
    with timed.part("version 1 from data to registry"):
        number = versions.register("1")
    site.apply(Path("digits.yaml"))
    with timed.part("version 1 from alias to first answer"):
        versions.promote(number)
        site.wait(lambda: live(site) == number, "version 1 live")
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
        attempt = site.wait(lambda: ended(site, number), "version 2 judged", deadline_s=600)

    assert attempt["status"]["verdict"]["outcome"] == "Successful", attempt["status"]
    assert live(site) == number
    assert not traffic.failures(began), traffic.failures(began)[:5]
    timed.facts["answers while version 2 came"] = dict(traffic.versions(began))


def test_version_3_is_rolled_back_and_the_alias_restored(
    site: Site, timed: Timed, versions: Versions, traffic: Traffic
) -> None:
    began, stable = time.monotonic(), live(site)
    with timed.part("version 3 from data to registry"):
        number = versions.register("3")
    with timed.part("version 3 from alias to verdict"):
        versions.promote(number)
        attempt = site.wait(lambda: ended(site, number), "version 3 judged", deadline_s=600)

    assert attempt["status"]["verdict"]["outcome"] == "Failed", attempt["status"]
    site.wait(lambda: versions.champion() == stable, "the alias restored", deadline_s=60)
    assert live(site) == stable
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
    pod = next(each for each in servers(site) if ready(each))
    with timed.part("server killed until all are ready"):
        stage.kill(site, TEAM, pod["metadata"]["name"], "modelyard.serving.supervisor")
        site.wait(lambda: not all(map(ready, servers(site))), "the loss seen", deadline_s=60)
        site.wait(lambda: all(map(ready, servers(site))), "all servers ready")

    assert not traffic.failures(began), traffic.failures(began)[:5]


def test_a_deleted_namespace_ends(site: Site, timed: Timed, traffic: Traffic) -> None:
    traffic.stop()
    timed.facts["requests"] = len(traffic.answers())
    timed.facts["failed requests"] = len(traffic.failures())
    with timed.part("namespace deleted until it is gone"):
        site.kubectl("delete", "namespace", TEAM, "--wait=false")
        site.wait(lambda: not site.get("namespace", TEAM), "the namespace's end", deadline_s=120)


def live(site: Site) -> str:
    """The version that is stable."""
    return str((site.status().get("stable") or {}).get("version") or "")


def ended(site: Site, version: str) -> dict[str, object] | None:
    """The attempt with this version, once it has ended."""
    for attempt in reversed(site.rollouts()):
        if attempt["spec"]["version"] == version:
            ended = (attempt.get("status") or {}).get("phase") in ("Successful", "Failed")
            return attempt if ended else None
    return None


def servers(site: Site) -> list[dict[str, object]]:
    """Pods that serve."""
    return site.items("pods", "-n", TEAM, "-l", "modelyard.dev/deployment=digits")


def ready(pod: dict[str, object]) -> bool:
    """Whether it takes requests."""
    conditions = pod.get("status", {}).get("conditions", ())  # type: ignore[attr-defined]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
