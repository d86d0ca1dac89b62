"""The numpy twin that simulates means of bounded values does what the product does."""

import numpy as np
import pytest
from tests.unit.rollout.test_canary_twin import twin  # noqa: F401  a fixture
from tests.unit.rollout.test_pairs import MEAN, Pair, spec_of, told

from modelyard.rollout import analysis


@pytest.mark.parametrize("canary", [0.3, 0.45])
def test_the_twin_equals_the_product_on_values(twin, canary):  # noqa: F811
    rng = np.random.default_rng(5)
    spec = spec_of(MEAN)
    history = np.array([[140.0], [200.0]])
    copy = twin.Twin(twin.Metric(0.05), history=history)
    evidence, at = analysis.begin(spec, now=0.0), 0.0
    stable, new = Pair(total=200, bad=60.0), Pair(total=0, bad=0.0)
    evidence = analysis.look(evidence, spec, now=at, stable=None, canary=None, told=told(at, stable, new))
    for look in range(1, 120):
        here, there = (np.round(rng.uniform(0, 2 * mean, count), 6).sum() for mean, count in ((0.3, 19), (canary, 3)))
        copy.look(np.array([[19 - here], [19.0]]), np.array([[3 - there], [3.0]]))
        stable = Pair(total=stable.total + 19, bad=stable.bad + here)
        new = Pair(total=new.total + 3, bad=new.bad + there)
        evidence = analysis.look(evidence, spec, now=look, stable=None, canary=None, told=told(look, stable, new))
    assert evidence.alarms[0].log_e == pytest.approx(copy.alarm[0], abs=2e-3)
    assert evidence.trials[0].log_e == pytest.approx(copy.success[0], abs=2e-3)
    assert evidence.trials[0].beyond == copy.beyond[0]
