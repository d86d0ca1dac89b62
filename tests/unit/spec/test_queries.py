"""Metrics that a Prometheus counts: what cannot act, or would deceive, is refused at its field."""

import pytest
from tests.unit.spec.test_check import GOOD

from modelyard.errors import BadSpec
from modelyard.spec.parse import parse_project_text

URL = "http://127.0.0.1:9090"


def refused(metric: str, **more: str) -> str:
    """What is said of one metric, where a Prometheus is known; nothing where it is taken."""
    return said({"metrics": f"[{metric}]", "prometheus": URL, **more})


def said(analysis: dict[str, str]) -> str:
    """What is said of a project with these fields of the analysis."""
    steps = {"deployment.strategy.canary.steps": "[{setWeight: 5}, {analysis: {}}]"}
    try:
        parse_project_text(
            GOOD, overrides={**steps, **{f"deployment.analysis.{at}": to for at, to in analysis.items()}}
        )
    except BadSpec as error:
        return str(error)
    return ""


def query(*, name: str = "refunds", margin: str = "Absolute", **fields: str) -> str:
    asked = {"total": "\"all{a='$arm'}\"", **fields}
    inner = ", ".join(f"{field}: {text}" for field, text in asked.items())
    return f"{{name: {name}, margin: {{type: {margin}, value: 1%}}, query: {{{inner}}}}}"


BAD = "\"bad{a='$arm'}\""


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (query(), "query: give exactly one of failures (a count) and sum"),
        (query(failures=BAD, sum=BAD), "query: give exactly one of failures (a count) and sum"),
        (query(failures='"bad"'), "query.failures: has no $arm: both arms would get one answer"),
        (query(failures=BAD, total='"all"'), "query.total: has no $arm"),
        (query(failures="\"rate(bad{a='$arm'}[5m])\""), "query.failures: rate gives no counter"),
        (query(failures="\"increase (bad{a='$arm'}[5m])\""), "query.failures: increase gives no counter"),
        (query(failures="\"sum(bad{a='$arm'})\""), "query.failures: sum hides the restart of one server"),
        (query(failures="\"sum by (pod) (bad{a='$arm'})\""), "query.failures: sum hides the restart of one server"),
        (query(failures=BAD, bounds='["0", "1"]'), "query.bounds: cannot act without sum"),
        (query(sum=BAD), "query.bounds: must be the smallest and the largest value"),
        (query(sum=BAD, bounds='["5", "1"]'), "query.bounds: must be the smallest and the largest value"),
        (query(sum=BAD, bounds='["1", "5"]', margin="Relative"), "margin.type: Relative has no meaning"),
        (query(name="error-rate", failures=BAD), "name: 'error-rate' cannot name a query"),
        (query(name="latency-p90", failures=BAD), "name: 'latency-p90' cannot name a query"),
        (query(name="Refunds", failures=BAD), "name: 'Refunds' cannot name a query"),
        ("{name: refunds, margin: {type: Absolute, value: 1%}}", "'refunds' is not compared"),
    ],
)
def test_a_query_that_cannot_be_compared_is_refused(metric: str, message: str) -> None:
    assert message in refused(metric)


@pytest.mark.parametrize(
    "metric",
    [
        query(failures=BAD),
        query(sum=BAD, bounds='["1", "5"]'),
        query(sum=BAD, bounds='["0", "500m"]', margin="Relative"),
        query(failures="\"bad{a='$arm', said='sum (rate(x))'}\""),
        query(failures="\"bad{a='$arm'} or 0 * sum_total{a='$arm'}\""),
    ],
)
def test_a_query_that_can_be_compared_is_taken(metric: str) -> None:
    assert refused(metric) == ""


def test_bursts_cannot_act_on_a_mean() -> None:
    assert "bursts: cannot act on refunds" in refused(query(sum=BAD, bounds='["0", "5"]'), bursts="5s")


def test_without_a_prometheus_it_is_said_what_to_set() -> None:
    message = "metrics.0.query: nothing is there to ask: set analysis.prometheus"
    assert message in said({"metrics": f"[{query(failures=BAD)}]"})


def test_a_prometheus_that_nobody_asks_or_that_is_no_url_is_refused() -> None:
    assert "prometheus: cannot act: no metric has a query" in said({"prometheus": URL})
    assert "prometheus: 'here' is no URL" in refused(query(failures=BAD), prometheus="here")
