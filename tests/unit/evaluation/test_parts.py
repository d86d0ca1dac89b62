"""Influences of single examples, and intervals of what is made of several classes."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import chances, report
from sklearn import metrics as sk

from modelyard.evaluation import parts
from modelyard.evaluation.influence import INFLUENCE, calibration_excess, interval
from modelyard.evaluation.measure import difference, measured
from modelyard.evaluation.metrics import METRICS, Cells
from modelyard.evaluation.parts import Estimate, Weighed, together
from modelyard.statistics.intervals import tango

RNG = np.random.default_rng(2)
COUNT = 120
POSITIVE = RNG.random(COUNT) < 0.3
SCORES = np.round(RNG.normal(size=COUNT) + POSITIVE, 1)  # rounded: some are equal
ANSWERED = SCORES > 0.6


def _slope(metric, at, step=1e-6):
    """How a metric of weighted examples moves with one example's weight."""
    weights = np.ones(COUNT)
    base = metric(weights)
    weights[at] += step
    return (metric(weights) - base) / step * COUNT


RANKED = {
    "auroc": (parts.auroc, lambda w: sk.roc_auc_score(POSITIVE, SCORES, sample_weight=w)),
    "average-precision": (parts.average_precision,
                          lambda w: sk.average_precision_score(POSITIVE, SCORES, sample_weight=w)),
}  # fmt: skip


@pytest.mark.parametrize("name", RANKED)
def test_a_rankings_influence_is_how_it_moves_with_an_examples_weight(name):
    ours, theirs = RANKED[name]
    part = ours(POSITIVE, SCORES, 0.95)
    assert part.value == pytest.approx(theirs(None))
    assert part.influence.mean() == pytest.approx(0, abs=1e-9)
    for at in range(0, COUNT, 7):
        assert part.influence[at] == pytest.approx(_slope(theirs, at), abs=1e-3)


def test_an_f1s_and_a_precisions_influence_is_how_they_move_with_an_examples_weight():
    f1 = parts.f1(POSITIVE, ANSWERED, 0.95)
    precision = parts.proportion(POSITIVE & ANSWERED, ANSWERED, 0.95)
    for part, metric in ((f1, sk.f1_score), (precision, sk.precision_score)):
        assert part.value == pytest.approx(metric(POSITIVE, ANSWERED))
        for at in range(0, COUNT, 7):
            slope = _slope(lambda w, m=metric: m(POSITIVE, ANSWERED, sample_weight=w), at)
            assert part.influence[at] == pytest.approx(slope, abs=1e-3)


CELLS = {
    "class": Cells(classes=3, labels=RNG.integers(0, 3, COUNT), probabilities=RNG.dirichlet([2, 1, 1], COUNT),
                   losses=RNG.normal(size=COUNT)),
    "number": Cells(labels=RNG.normal(size=COUNT), predictions=RNG.normal(size=COUNT)),
    "text": Cells(labels=["a b c d"[: 1 + 2 * (at % 4)] for at in range(COUNT)],
                  predictions=["a x c"[: 1 + 2 * (at % 3)] for at in range(COUNT)], losses=RNG.normal(size=COUNT)),
}  # fmt: skip


@pytest.mark.parametrize("name", INFLUENCE)
def test_a_metrics_influence_is_how_it_moves_with_an_examples_weight(name):
    known = METRICS[name]
    cells = CELLS[known.kinds[0]]
    influence = INFLUENCE[name](cells)
    assert influence.shape == (COUNT,)
    assert influence.mean() == pytest.approx(0, abs=1e-9 if name != "ece" else 1e-2)
    for at in range(0, COUNT, 11):
        slope = _slope(lambda w: float(known.measure(cells, w[None, :])[0]), at)
        assert influence[at] - influence.mean() == pytest.approx(slope, abs=1e-3 + 1e-3 * abs(slope))


def _part(value, low, high, *influence):
    return Estimate(value, low, high, np.array(influence, dtype=float))


def test_parts_of_different_examples_add_like_standard_errors():
    both = [Weighed(1.0, _part(0.8, 0.7, 0.85, 1, -1, 0, 0)), Weighed(1.0, _part(0.9, 0.8, 0.95, 0, 0, 1, -1))]
    assert together(both) == pytest.approx((1.7 - np.hypot(0.1, 0.1), 1.7 + np.hypot(0.05, 0.05)))


def test_the_bound_of_a_difference_is_made_of_the_upper_bound_of_what_is_subtracted():
    apart = [Weighed(1.0, _part(0.8, 0.7, 0.85, 1, -1, 0, 0)), Weighed(-1.0, _part(0.9, 0.7, 0.95, 0, 0, 1, -1))]
    assert together(apart) == pytest.approx((-0.1 - np.hypot(0.1, 0.05), -0.1 + np.hypot(0.05, 0.2)))


def test_what_moves_with_the_same_examples_is_known_better_by_its_difference():
    moves = RNG.normal(size=400)
    part = Estimate(0.8, 0.7, 0.9, moves)
    same = together([Weighed(1.0, part), Weighed(-1.0, part)])
    assert 0.01 < same.high < 0.03  # one more example, on which they differ, is allowed for
    doubled = together([Weighed(1.0, part), Weighed(1.0, part)])
    assert doubled.high == pytest.approx(1.8, abs=2e-3)


@settings(max_examples=25)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(60, 300))
def test_the_difference_of_a_precision_is_much_like_tangos_where_both_answer_the_same_examples(gained, lost, total):
    """Two models that call all examples positive, but for those on which they differ: no proportion could tell more."""
    mine = np.arange(total) >= lost
    theirs = (np.arange(total) < lost) | (np.arange(total) >= lost + gained)
    everywhere = np.ones(total, dtype=bool)
    one, other = (parts.proportion(hits, everywhere, 0.95) for hits in (mine, theirs))
    ours = together([Weighed(1.0, one), Weighed(-1.0, other)])
    exact = tango(gained, lost, total)
    assert ours.low <= (gained - lost) / total <= ours.high
    assert ours.high - ours.low == pytest.approx(exact.high - exact.low, rel=0.45)


@pytest.mark.parametrize("name", ["auroc", "f1-macro", "log-loss", "brier"])
def test_the_gap_to_a_model_that_answers_alike_is_known_better_than_both(name):
    labels = [at % 3 for at in range(300)]
    rows, winners = chances(labels, firm=1.0)
    nearly = tuple((row[1], row[0], row[2]) if at % 15 == 2 else row for at, row in enumerate(rows))
    one = report(labels, winners, probabilities=rows)
    other = report(labels, winners, probabilities=nearly)
    gap, alone = difference(one, other, name), measured(one, name)
    assert gap.low <= gap.value <= gap.high
    assert gap.high - gap.low < (alone.high - alone.low) / 2


def test_the_calibration_error_of_few_examples_is_too_large_and_its_lower_bound_knows():
    """A model that says 0.75 and is right in 75 %: 40 examples rarely show exactly 30."""
    rng, bad, excess = np.random.default_rng(0), [], []
    for _ in range(200):
        labels = (rng.random(40) > 0.75).astype(int).tolist()
        one = report(labels, [0] * 40, probabilities=tuple((0.75, 0.25) for _ in range(40)), classes=("no", "yes"))
        metric = measured(one, "ece")
        bad.append(metric.low > 0)
        cells = Cells(classes=2, labels=np.array(labels), probabilities=np.array(one.probabilities))
        excess.append((metric.value, calibration_excess(cells)))
    values, guesses = np.mean(excess, axis=0)
    assert 0.04 < values < 0.07  # in truth 0
    assert 0 < guesses < values
    assert np.mean(bad) < 0.05


def test_the_lower_bound_of_a_calibration_error_leaves_out_what_chance_adds():
    labels = [int(at % 20 < 8) for at in range(400)]  # right in 60 %, and says 75 %
    one = report(labels, [0] * 400, probabilities=((0.75, 0.25),) * 400, classes=("no", "yes"))
    cells = Cells(classes=2, labels=np.array(labels), probabilities=np.array(one.probabilities))
    around = interval(0.15, INFLUENCE["ece"](cells), 0.95)
    metric = measured(one, "ece")
    assert metric.value == pytest.approx(0.15)
    assert metric.high == pytest.approx(around.high)
    assert 0 < metric.low == pytest.approx(around.low - calibration_excess(cells), abs=1e-12)

    honest = report(labels, [0] * 400, probabilities=((0.6, 0.4),) * 400, classes=("no", "yes"))
    cells = Cells(classes=2, labels=np.array(labels), probabilities=np.array(honest.probabilities))
    assert calibration_excess(cells) == pytest.approx(math.sqrt(2 / math.pi * 0.24 / 400))


def test_ten_thousand_examples_of_ten_classes_take_less_than_a_tenth_of_a_second():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 10_000)
    answers = [np.where(rng.random(10_000) < 0.1, rng.integers(0, 10, 10_000), labels) for _ in range(2)]
    one, other = (report(labels.tolist(), each.tolist(), classes=tuple("abcdefghij")) for each in answers)
    took = []
    for _ in range(3):
        began = time.process_time()
        difference(one, other, "f1-macro")
        took.append(time.process_time() - began)
    assert min(took) < 0.1


def test_one_more_example_as_bad_as_the_worst_counts_on_each_side():
    """Values of ±1 have no skewness of their own: without the eleventh it were Student's t, 0.754."""
    low, high = interval(0.0, np.array([-1.0, 1.0] * 5), 0.95)
    assert low == pytest.approx(-high)
    assert high == pytest.approx(0.763, abs=1e-3)
