"""Prediction drift in the loop: what a canary that predicts other classes comes to; and the twin that simulates it."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tests.unit.rollout.test_drift import DRIFT, told

from modelyard.errors import BadInput
from modelyard.rollout import analysis, drift
from modelyard.rollout.simulate import Truth, simulate
from modelyard.spec.deployment import Analysis, DeploymentSpec, ModelRef
from modelyard.units import Duration, Percentage
from modelyard.verdict import Outcome, Reason

METRICS = (*Analysis().metrics, replace(DRIFT, margin=replace(DRIFT.margin, value=Percentage("20%"))))
WISH = DeploymentSpec(model=ModelRef(name="digits", alias="champion"), analysis=Analysis(metrics=METRICS))


def test_a_canary_that_predicts_other_classes_is_rolled_back() -> None:
    went = simulate(WISH, Truth(rps=100, drift=0.5))
    assert not went.promoted
    assert (went.verdict.outcome, went.verdict.reason) == (Outcome.FAILED, Reason.PREDICTION_DRIFT)
    assert "most: '0'" in went.verdict.message
    assert went.canary_requests < 100


def test_a_canary_that_predicts_as_stable_does_is_promoted() -> None:
    assert simulate(WISH, Truth(rps=200)).promoted


def test_an_error_rate_that_is_fine_does_not_pass_predictions_that_are_not_compared_enough() -> None:
    narrow = replace(DRIFT, margin=replace(DRIFT.margin, value=Percentage("1%")))
    wish = replace(WISH, analysis=Analysis(metrics=(*Analysis().metrics, narrow), max_duration=Duration("2m")))
    went = simulate(wish, Truth(rps=50))
    assert (went.verdict.outcome, went.promoted) == (Outcome.INCONCLUSIVE, False)


def test_a_drift_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadInput, match=r"a drift of 0\.95"):
        simulate(WISH, Truth(drift=0.95))


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "prediction_drift.py"
    spec = importlib.util.spec_from_file_location("prediction_drift", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "prediction_drift", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("far", [0.0, 0.15])
def test_the_twin_does_exactly_what_the_product_does(benchmark_module: ModuleType, far: float) -> None:
    rng, spec = np.random.default_rng(5), Analysis(metrics=(DRIFT,), warmup_requests=0)
    stable, canary = np.array([0.4, 0.3, 0.25, 0.05]), np.array([0.4 + far, 0.3 - far, 0.25, 0.05])
    counts = [rng.multinomial(300, stable), np.zeros(4, int)]
    twin = benchmark_module.Twin(counts[0][:, None], 0.1)
    evidence = analysis.begin(spec, now=0.0)
    for at in range(120):
        classes = [dict(zip("abcd", map(int, one), strict=True)) for one in counts]
        evidence = analysis.look(evidence, spec, now=at, stable=told(at, classes[0]), canary=told(at, classes[1]))
        if at:
            assert evidence.alarm(drift.NAME).log_e == pytest.approx(twin.alarm[0], abs=1e-6)
            trial = evidence.trial(drift.NAME, DRIFT.margin.value)
            assert trial is not None
            assert trial.log_e == pytest.approx(twin.success[0], abs=1e-6)
            assert trial.beyond == twin.beyond[0]
        blocks = rng.multinomial(60, stable), rng.multinomial(20, canary)
        counts = [before + block for before, block in zip(counts, blocks, strict=True)]
        twin.look(*(block[:, None] for block in blocks))
