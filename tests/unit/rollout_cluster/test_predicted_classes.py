"""Where predicted classes are compared on a cluster, the pods are asked for them beside the gateway's proxies."""

from collections.abc import Mapping

import pytest
from tests.unit.rollout_cluster.test_counters import KEY, Fleet

from modelyard.kube.port import MODEL_DEPLOYMENT
from modelyard.rollout.cluster.counters import ClusterCounters, of_pod, parsed
from modelyard.rollout.cluster.ledger import Ledger
from modelyard.rollout.observation import Counts
from modelyard.serving.tally import Tally


class Told:
    """Counters that say what they are told, and how often they were asked."""

    def __init__(self, counts: Mapping[str, Counts]) -> None:
        self.told, self.asked = counts, 0

    def counts(self, _key: str) -> Mapping[str, Counts]:
        self.asked += 1
        return self.told


def worlds(metric: str, gateway: str = "EnvoyGateway") -> tuple[ClusterCounters, Told, Told]:
    fleet = Fleet()
    spec = {"analysis": {"metrics": [{"name": metric}]}, "traffic": {"gateway": gateway}}
    fleet.put(MODEL_DEPLOYMENT, "digits", "vision", {}, spec=spec)
    router = Told({"a": Counts(at=1.0, requests=9, errors=1), "b": Counts(at=1.0, requests=2, errors=0)})
    pods = Told({"a": Counts(at=1.1, requests=8, errors=0, classes={"7": 8})})
    return ClusterCounters(fleet.kube, router=router, pods=pods), router, pods


def test_attempts_come_from_the_router_and_classes_from_the_pods() -> None:
    counters, _, _ = worlds("prediction-drift")
    counts = counters.counts(KEY)
    assert (counts["a"].requests, counts["a"].errors, counts["a"].classes) == (9, 1, {"7": 8})
    assert counts["b"].classes is None


def test_where_no_classes_are_compared_no_pod_is_asked() -> None:
    counters, router, pods = worlds("error-rate")
    assert counters.counts(KEY)["a"].classes is None
    assert (router.asked, pods.asked) == (1, 0)


def test_where_the_pods_give_all_they_are_asked_once() -> None:
    counters, router, pods = worlds("prediction-drift", "Other")
    assert counters.counts(KEY)["a"].classes == {"7": 8}
    assert (router.asked, pods.asked) == (0, 1)


@pytest.mark.parametrize("label", ["7", "hot%20dog", "%22%5C"])
def test_a_pod_tells_a_class_by_any_name(label: str) -> None:
    tally = Tally()
    tally.classes.update([label, label])
    assert 'class="' in tally.text({})
    assert list((of_pod(tally.text({})).classes or {}).values()) == [2]
    assert [one for one in parsed(tally.text({})) if one.name == "modelyard_predictions_total"]


def test_a_pod_that_began_anew_takes_no_class_back() -> None:
    ledger = Ledger()
    for codes, classes in (({200: 5}, {"7": 3, "1": 2}), ({200: 2}, {"7": 2}), ({200: 4}, {"7": 3, "2": 1})):
        tally = Tally()
        tally.codes.update(codes)
        tally.classes.update(classes)
        ledger.put((KEY, "a"), "x", of_pod(tally.text({})))
    total = ledger.total((KEY, "a"), at=1.0)
    assert total is not None
    assert total.classes == {"7": 6, "1": 2, "2": 1}
