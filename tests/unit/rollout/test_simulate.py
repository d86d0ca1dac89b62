"""The simulation runs the real loop: what it says is what a rollout would do."""

from dataclasses import replace

import pytest

from modelyard.errors import BadInput
from modelyard.rollout.simulate import Truth, simulate
from modelyard.spec.deployment import Analysis, Canary, DeploymentSpec, ModelRef, Pause, PauseStep, Strategy
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason

WISH = DeploymentSpec(model=ModelRef(name="digits", alias="champion"))


def test_a_version_that_is_as_good_is_promoted_step_by_step() -> None:
    went = simulate(WISH, Truth(rps=500, errors=0.002))
    assert went.promoted
    assert [share for _, share in went.weights] == [0, 5, 50, 100]
    assert went.verdict.reason is Reason.ANALYSIS_SUCCESSFUL


def test_a_regression_is_stopped_and_its_harm_counted() -> None:
    went = simulate(WISH, Truth(rps=50, errors=0.01, regression=0.2))
    assert not went.promoted
    assert went.verdict.outcome is Outcome.FAILED
    assert went.weights[-1][1] == 0
    assert 0 < went.harmed <= went.canary_errors < 60
    assert went.verdict_s < 60


def test_a_slow_version_is_stopped() -> None:
    went = simulate(WISH, Truth(rps=200, errors=0.001, slower=1.5))
    assert went.verdict.reason is Reason.LATENCY


def test_too_little_traffic_is_inconclusive_and_says_so() -> None:
    wish = replace(WISH, analysis=Analysis(max_duration=Duration("2m")))
    went = simulate(wish, Truth(rps=1))
    assert went.verdict.outcome is Outcome.INCONCLUSIVE
    assert not went.promoted


def test_the_same_seed_is_the_same_rollout() -> None:
    truth = Truth(rps=100, regression=0.1)
    assert simulate(WISH, truth, seed=3) == simulate(WISH, truth, seed=3)


@pytest.mark.parametrize(
    ("wish", "truth", "said"),
    [
        (WISH, Truth(errors=0.9, regression=0.2), "0 to 1"),
        (WISH, Truth(rps=0), "not positive"),
        (
            replace(WISH, strategy=Strategy(canary=Canary(steps=(PauseStep(pause=Pause()),)))),
            Truth(),
            "waits for people",
        ),
        (replace(WISH, analysis=Analysis(on_inconclusive="Pause")), Truth(), "waits for people"),
    ],
    ids=["shares above one", "no traffic", "an endless pause", "held when inconclusive"],
)
def test_what_cannot_be_simulated_is_refused(wish: DeploymentSpec, truth: Truth, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        simulate(wish, truth)
