"""Every call that whole rollouts make is granted by the one table of rights, and the chart grants no less."""

from pathlib import Path

import pytest
import yaml
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.replica import Replica
from tests.fakes.scenarios import failure

from modelyard.kube.permissions import AT_HOME, EVERYWHERE, allows, policy_rules
from modelyard.kube.port import BACKEND_TRAFFIC_POLICY, LEASE, MODEL_DEPLOYMENT, MODEL_ROLLOUT
from modelyard_operator.operator import OWNED, READ
from modelyard_operator.watches import OURS

pytestmark = pytest.mark.usefixtures("unlogged")
CHART = Path(__file__).parents[3] / "charts" / "modelyard" / "files"


def test_a_rollout_a_failure_and_both_autoscalers_ask_for_nothing_more() -> None:
    it = ClusterWorld()
    it.version("1")
    it.alias("1")
    it.wish(autoscaling={"minReplicas": 1, "maxReplicas": 3, "metric": {"type": "CPU"}})
    replica = Replica(it, "only")

    def go_on(looks: int) -> None:
        for _ in range(looks):
            it.pass_time(1.0)
            replica.turn()

    go_on(20)
    failure(it)  # type: ignore[arg-type]
    go_on(60)
    query = {"type": "Prometheus", "prometheus": {"query": "sum(rate(x[1m]))", "target": "5",
                                                  "serverAddress": "http://prometheus"}}  # fmt: skip
    it.wish(autoscaling={"minReplicas": 1, "maxReplicas": 3, "metric": query})
    go_on(20)
    it.wish(traffic={"parentRefs": [{"name": "public"}], "gateway": "Other"})
    go_on(20)
    replica.elector.release()
    calls = {(call.verb, call.kind, call.subresource) for call in it.kube.calls}
    rules = (*EVERYWHERE, *AT_HOME)
    refused = [call for call in calls if not allows(rules, call[0], call[1], subresource=call[2])]
    assert refused == []
    assert {("apply", BACKEND_TRAFFIC_POLICY, ""), ("replace", LEASE, ""), ("create", MODEL_ROLLOUT, "")} <= calls


def test_all_that_is_watched_may_be_listed_and_watched() -> None:
    for kind in (*OURS, *OWNED, *READ):
        assert all(allows(EVERYWHERE, verb, kind) for verb in ("get", "list", "watch")), kind.plural


def test_the_operator_may_not_change_what_people_wish() -> None:
    for verb in ("create", "apply", "replace", "delete"):
        assert not allows(EVERYWHERE, verb, MODEL_DEPLOYMENT)


@pytest.mark.parametrize("file", ["operator-rules.yaml", "lease-rules.yaml"])
def test_the_chart_grants_what_the_table_says(file: str) -> None:
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in yaml.safe_load((CHART / file).read_text())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for rule in policy_rules(EVERYWHERE if file.startswith("operator") else AT_HOME):
        (group,), (resource,) = rule["apiGroups"], rule["resources"]
        missing = set(rule["verbs"]) - granted.get((group, resource), set())
        assert not missing, f"{resource}.{group} lacks {', '.join(sorted(missing))}"
