"""The numpy twin that simulates ten thousand rollouts does exactly what the product does."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from modelyard.rollout import analysis
from modelyard.rollout.observation import Counts
from modelyard.spec.deployment import Analysis, AnalysisMetric, MetricMargin
from modelyard.units import Duration, Percentage

HERE = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def twin(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("canary_twin", HERE / "canary_twin.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "canary_twin", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "kind", "margin", "bursts", "spread"), [
    ("error-rate", "Absolute", "5%", 0, 0), ("error-rate", "Relative", "50%", 0, 0),
    ("latency-p90", "Relative", "50%", 0, 0.35), ("latency-p90", "Relative", "50%", 0, 0.01),
    ("error-rate", "Absolute", "5%", 3, 0), ("error-rate", "Relative", "50%", 3, 0),
    ("latency-p90", "Relative", "50%", 3, 0.35),
])  # fmt: skip
def test_the_twin_equals_the_product(twin, name, kind, margin, bursts, spread):  # noqa: PLR0917
    """Also where nearly all answers fall into one bucket, and with time blocks instead of requests."""
    rng = np.random.default_rng(3)
    bounds = analysis.LATENCY_BOUNDS_MS[30:70] if name != "error-rate" else ()
    metrics = (AnalysisMetric(name=name, margin=MetricMargin(type=kind, value=Percentage(margin))),)
    spec = Analysis(metrics=metrics, bursts=Duration(f"{bursts}s"))
    share = Percentage(margin).fraction
    metric = twin.Metric(share, 0.1, bounds=bounds) if bounds else twin.Metric(share, relative=kind == "Relative")

    def row(requests, errors, slower):
        if not bounds:
            failed = rng.binomial(requests, errors)
            return np.array([requests - failed, requests])
        took = 4 * np.exp(spread * rng.standard_normal(requests)) * slower
        return np.array([*((took <= bound).sum() for bound in bounds), requests])

    def counts(at, total):
        numbers = tuple(int(count) for count in total)
        failed = 0 if bounds else numbers[-1] - numbers[0]
        return Counts(at=at, requests=numbers[-1], errors=failed, latency=numbers if bounds else (), bounds=bounds)

    stable, canary = row(3000, 0.02, 1.0), row(0, 0.02, 1.0)
    many = twin.Twin(metric, history=stable[:, None].astype(float), block=3 * bursts)
    evidence = analysis.begin(spec, now=0.0)
    evidence = analysis.look(evidence, spec, now=0.0, stable=counts(0, stable), canary=counts(0, canary))
    for at in range(1, 300):
        more_s, more_c = row(rng.poisson(100), 0.02, 1.0), row(rng.poisson(1 if at < 200 else 40), 0.03, 1.2)
        stable, canary = stable + more_s, canary + more_c
        evidence = analysis.look(evidence, spec, now=at, stable=counts(at, stable), canary=counts(at, canary))
        many.look(more_s[:, None], more_c[:, None])
        alarm, trial = evidence.alarms[0], evidence.trials[0]
        # far above any threshold the twin stops counting
        assert min(many.alarm[0], 500) == pytest.approx(min(alarm.log_e, 500), abs=1e-6)
        assert many.success[0] == pytest.approx(trial.log_e, abs=1e-6)
        assert many.excess[0] == pytest.approx(trial.excess, abs=1e-6)
        assert many.surge[0] == pytest.approx(trial.surge, abs=1e-6)
        assert many.counted_c[0] == evidence.stream(name).canary.counted
    assert alarm.blocks > (20 if bursts else 100)


def _loaded(monkeypatch, name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_the_rules_of_others_end_when_their_documentation_says(twin, monkeypatch):
    rules = _loaded(monkeypatch, "canary_rules")
    rng = np.random.default_rng(0)
    good, bad = rules.Traffic("good", 0.0), rules.Traffic("bad", 0.5)
    # four failed measurements are more than failureLimit 3; ten failed checks reach threshold 10
    for rule, passes_s, fails_s in ((rules.argo, 2400, 1200), (rules.flagger, 600, 600)):
        passed, failed = rule(good, 5, rng), rule(bad, 5, rng)
        assert (set(passed.outcome), set(passed.seconds)) == ({2}, {passes_s})
        assert (set(failed.outcome), set(failed.seconds)) == ({1}, {fails_s})
    assert set(rules.modelyard(good, 5, rng).outcome) == {2}
    worse = rules.modelyard(rules.Traffic("worse", 0.01, 0.3), 5, rng)
    assert set(worse.outcome) == {1}
    assert worse.seconds.max() < 120


def test_a_small_simulation_keeps_its_promises(twin, monkeypatch):
    module = _loaded(monkeypatch, "canary_analysis")
    scene = module.Scene("as good", "alarm", base=0.05, canary=0.05, weight=0.5, looks=150, per_look=20)
    assert module.play(scene, 400).share(1)[0] <= 0.005
    boundary = module.Scene(
        "boundary", "success", base=0.0, canary=0.05, margin=0.05, weight=0.5, looks=150, per_look=20
    )
    result = module.play(boundary, 600)
    count = int((result.outcome == 2).sum())
    assert module.clopper_pearson(count, 600, 0.99).low <= 0.05
    pooled = module.Scene("pooled", "alarm", base=0.05, canary=0.05, drift=True, pooled=True, looks=200)
    assert module.play(pooled, 200).share(1)[0] > 0.02
