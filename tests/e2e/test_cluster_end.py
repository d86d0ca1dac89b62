"""The end of a run on a cluster: a team's namespace goes, and nothing holds it."""

import pytest
from tests.e2e.cluster.site import TEAM, Site
from tests.e2e.cluster.stage import Timed
from tests.e2e.cluster.traffic import Traffic

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]


def test_a_deleted_namespace_ends(site: Site, timed: Timed, traffic: Traffic) -> None:
    traffic.stop()
    timed.facts["requests"] = len(traffic.answers())
    timed.facts["failed requests"] = len(traffic.failures())
    with timed.part("namespace deleted until it is gone"):
        site.kubectl("delete", "namespace", TEAM, "--wait=false")
        site.wait(lambda: not site.get("namespace", TEAM), "the namespace's end", deadline_s=120)
