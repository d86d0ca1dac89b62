"""On a cluster the operator's own Prometheus is asked, never one that a wish names."""

from dataclasses import replace

from tests.fakes.cluster import FakeKube
from tests.fakes.queries import COUNT

from modelyard.rollout.cluster.render import Settings
from modelyard.spec.deployment import Analysis
from modelyard_operator.wiring import made

WISHED = Analysis(metrics=(COUNT,), prometheus="http://secrets.kube-system")


def told(prometheus: str, analysis: Analysis = WISHED) -> str:
    """Why nothing is told of the metric, by an operator that knows this Prometheus."""
    queries = made(FakeKube(), Settings(serving_image="serving:1"), "", prometheus).world.queries
    assert queries is not None
    return queries.told("vision/digits", analysis, ("a1", "b2"))["refunds"].why


def test_without_one_it_is_said_which_value_to_set() -> None:
    assert told("") == "no Prometheus is known: set operator.prometheus in the chart's values"


def test_what_is_said_holds_no_password() -> None:
    assert told("http://reader:secret@127.0.0.1:9") == "Prometheus at http://127.0.0.1:9 gives no answer: ConnectError"


def test_the_one_that_a_wish_names_is_not_asked() -> None:
    assert told("http://127.0.0.1:9") == "Prometheus at http://127.0.0.1:9 gives no answer: ConnectError"
    assert told("http://127.0.0.1:9", replace(WISHED, prometheus=None)) == told("http://127.0.0.1:9")
