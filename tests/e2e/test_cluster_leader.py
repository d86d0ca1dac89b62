"""The operator's leader is killed (SIGKILL) in each phase of a rollout; another goes on, and no request fails.

Part of `make e2e`, after the smoke run and under the same traffic.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import pytest
from tests.e2e.cluster import stage
from tests.e2e.cluster.site import SYSTEM, TEAM, Site
from tests.e2e.cluster.stage import Timed
from tests.e2e.cluster.traffic import Traffic
from tests.e2e.cluster.versions import Versions

from modelyard.kube.client import KubeClient, connect
from modelyard.kube.metadata import ARM_LABEL, DEPLOYMENT_LABEL
from modelyard.kube.port import DEPLOYMENT, MODEL_ROLLOUT, Object
from modelyard.processes import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def kube(site: Site) -> KubeClient:
    """A phase may be over before another kubectl has started."""
    return connect(site.kubeconfig)


def phase(attempt: Object, wanted: str) -> bool:
    return bool((attempt.get("status") or {}).get("phase") == wanted)


def share(attempt: Object, wanted: int) -> bool:
    """Whether this is the share that the canary was seen to have."""
    seen = (attempt.get("status") or {}).get("weights", {}).get("confirmed") or {}
    return phase(attempt, "Progressing") and bool(seen.get(attempt["spec"]["arm"]) == wanted)


MOMENTS: Final[Mapping[str, Callable[[Object], bool]]] = {
    "while the canary starts": partial(phase, wanted="Starting"),
    "at 20 %": partial(share, wanted=20),
    "at 50 %": partial(share, wanted=50),
    "while it is promoted": partial(phase, wanted="Promoting"),
    "while the old one drains": partial(phase, wanted="Successful"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_another_leader_brings_the_rollout_to_its_end(
    *, moment: str, site: Site, timed: Timed, versions: Versions, traffic: Traffic, kube: KubeClient
) -> None:
    began, version, before = time.monotonic(), stage.other(site), names(kube)
    leader = stage.leader(site)
    kill = stage.killer(site, SYSTEM, leader, "modelyard-operator")
    versions.promote(version)
    wait_until(lambda: any(map(MOMENTS[moment], new(kube, before))), deadline_s=300, what=moment)
    kill()
    with timed.part(f"leader killed {moment} until the rollout's end"):
        site.wait(lambda: stage.leader(site) not in ("", leader), "another leader", deadline_s=90)
        attempt = site.wait(lambda: ended(kube, before), "the rollout's end", deadline_s=600)

    assert attempt["status"]["phase"] == "Successful", attempt["status"]
    site.wait(lambda: site.live() == version, "its version as stable", deadline_s=60)
    site.wait(lambda: arms(kube) == {attempt["spec"]["arm"]}, "the end of the other arm", deadline_s=180)
    assert len(new(kube, before)) == 1, "the next leader goes on with the attempt that is there"
    assert not traffic.failures(began), traffic.failures(began)[:5]
    site.rolled_out(SYSTEM, "modelyard-operator")


def test_another_leader_ends_a_rollback(
    site: Site, timed: Timed, versions: Versions, traffic: Traffic, kube: KubeClient
) -> None:
    stable, version, leader = site.live(), versions.register("4"), stage.leader(site)
    began, before = time.monotonic(), names(kube)
    kill = stage.killer(site, SYSTEM, leader, "modelyard-operator")
    versions.promote(version)
    attempt = wait_until(lambda: next((each for each in new(kube, before) if share(each, 20)), None),
                         deadline_s=300, what="20 %")  # fmt: skip
    assert attempt is not None
    abort = '{"spec": {"abort": true}}'
    site.kubectl("patch", "modelrollout", attempt["metadata"]["name"], "-n", TEAM, "--type=merge", "-p", abort)
    wait_until(lambda: any(phase(each, "RollingBack") for each in new(kube, before)), deadline_s=60, what="a rollback")
    kill()
    with timed.part("leader killed while it rolls back until its end"):
        site.wait(lambda: stage.leader(site) not in ("", leader), "another leader", deadline_s=90)
        attempt = site.wait(lambda: ended(kube, before), "the rollback's end", deadline_s=300)

    assert attempt["status"]["verdict"]["reason"] == "Aborted", attempt["status"]
    site.wait(lambda: versions.champion() == stable, "the alias restored", deadline_s=60)
    site.wait(lambda: version not in traffic.versions(time.monotonic() - 5), "no answer of it any more", deadline_s=60)
    assert site.live() == stable
    assert len(new(kube, before)) == 1
    assert not traffic.failures(began), traffic.failures(began)[:5]


def names(kube: KubeClient) -> set[str]:
    """Of all attempts."""
    return {each["metadata"]["name"] for each in kube.list(MODEL_ROLLOUT, namespace=TEAM).items}


def new(kube: KubeClient, before: set[str]) -> list[Any]:
    """Attempts that were not there before."""
    found = kube.list(MODEL_ROLLOUT, namespace=TEAM).items
    return [each for each in found if each["metadata"]["name"] not in before]


def ended(kube: KubeClient, before: set[str]) -> Any:
    """The new attempt, once it has ended."""
    return next((each for each in new(kube, before) if phase(each, "Successful") or phase(each, "Failed")), None)


def arms(kube: KubeClient) -> set[str]:
    """That have a Deployment."""
    found = kube.list(DEPLOYMENT, namespace=TEAM, labels={DEPLOYMENT_LABEL: "digits"}).items
    return {each["metadata"]["labels"][ARM_LABEL] for each in found}
