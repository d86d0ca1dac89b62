"""A metric that others count decides a rollout; what they refuse or do not know never does."""

from dataclasses import replace

import pytest
from tests.fakes.queries import COUNT, FakeQueries
from tests.fakes.world import KEY, FakeWorld

from modelyard.errors import BadInput
from modelyard.rollout.explain import standings
from modelyard.rollout.observation import trouble_of
from modelyard.rollout.pairs import Told
from modelyard.rollout.simulate import Truth, simulate
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisStep,
    Canary,
    DeploymentSpec,
    ModelRef,
    SetWeight,
    Strategy,
)
from modelyard.spec.rollout import Phase
from modelyard.verdict import Outcome, Reason

STEPS = Strategy(canary=Canary(steps=(SetWeight(set_weight=5), AnalysisStep(analysis=AnalysisGate()))))


@pytest.fixture
def it() -> FakeWorld:
    """Version 1 is stable, version 2 is to come; orders follow the traffic."""
    world = FakeWorld.with_stable(analysis=Analysis(metrics=(COUNT,)), strategy=STEPS)
    world.queries = FakeQueries()
    world.version("2")
    world.alias("2")
    return world


def ordering(it: FakeWorld, **refunds: float) -> object:
    """For `run(until=…)`: customers order with each look; these shares (`v2=0.3`) want their money back."""
    served = dict(it.served)

    def until() -> bool:
        assert isinstance(it.queries, FakeQueries)
        it.queries.at = it.now
        for version, count in it.served.items():
            new, served[version] = count - served.get(version, 0), count
            share = refunds.get(f"v{version}", 0.02)
            if new:
                it.queries.serve(it.arm_of(version), orders=new, refunds=round(new * share), regret=0.0)
        return it.at_rest

    return until


def test_a_version_whose_customers_are_as_content_comes_in(it: FakeWorld) -> None:
    it.run(until=ordering(it))
    it.run()
    assert it.stable == "2"


def test_a_version_whose_customers_are_not_is_rolled_back_and_the_metric_is_named(it: FakeWorld) -> None:
    it.run(until=ordering(it, v2=0.4))
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, Reason.METRIC)
    assert "refunds: 40.00% of the canary's" in verdict.message
    (stand,) = standings(it.attempt)
    assert stand.metric == "refunds"
    assert stand.canary > stand.stable


def test_a_refused_query_is_said_at_once_and_fails_no_version(it: FakeWorld) -> None:
    assert isinstance(it.queries, FakeQueries)
    it.queries.refused = "failures is refused: 1:9: parse error: unexpected end of input"
    said = []

    def until() -> bool:
        trouble = trouble_of(it.deployment)
        said.append(trouble.message if trouble else "")
        return it.at_rest and bool(it.rollouts) and it.attempt.status.phase is Phase.FAILED

    it.run(until=until)
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)
    assert "parse error: unexpected end of input" in verdict.message
    assert any("analysis.metrics refunds: failures is refused: 1:9: parse error" in one for one in said)
    assert it.tags["2"] == "inconclusive"
    assert it.stable == "1"
    assert it.served.get("2", 0) == 0, "it never got a request"


def test_a_prometheus_that_goes_away_in_mid_canary_is_told_and_the_rollout_waits(it: FakeWorld) -> None:
    ordered = ordering(it)
    assert callable(ordered)
    it.run(until=lambda: ordered() or it.weight_of("2") == 5)
    real, it.queries = it.queries, Away()
    it.run(until=lambda: it.condition("Degraded") == ("True", "Trouble"))
    assert it.attempt.status.phase is Phase.PROGRESSING
    it.queries = real
    it.run(until=ordered)
    it.run()
    assert it.stable == "2"


def test_nothing_counted_of_the_canary_is_never_a_pass(it: FakeWorld) -> None:
    assert isinstance(it.queries, FakeQueries)
    it.queries.serve(it.arm_of("1"), orders=1000)
    it.run(seconds=10.0)
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)
    assert "nothing for arm" in verdict.message
    assert it.stable == "1"


def test_where_nobody_can_be_asked_it_is_said_and_nothing_is_failed(it: FakeWorld) -> None:
    it.queries = None
    it.run()
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "nobody can be asked" in verdict.message


class Away:
    """A Prometheus that does not answer."""

    def told(self, key: str, analysis: Analysis, arms: object) -> dict[str, Told]:
        assert key == KEY
        return {one.name: Told(why="Prometheus gives no answer: ConnectError", away=True) for one in analysis.metrics}


def test_a_simulation_leaves_out_what_nobody_can_simulate() -> None:
    margins = {"refunds": COUNT.margin.value}
    steps = (SetWeight(set_weight=50), AnalysisStep(analysis=AnalysisGate(margins=margins)))
    errors = Analysis().metrics[0]
    wish = DeploymentSpec(
        model=ModelRef(name="digits", alias="champion"),
        strategy=Strategy(canary=Canary(steps=steps)),
        analysis=Analysis(metrics=(errors, COUNT), prometheus="http://127.0.0.1:9090"),
    )
    assert simulate(wish, Truth(errors=0.0)).promoted
    with pytest.raises(BadInput, match="all metrics of the analysis have a query"):
        simulate(replace(wish, analysis=Analysis(metrics=(COUNT,))), Truth())
