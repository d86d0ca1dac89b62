"""Intervals that have a width where a bootstrap has none."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import chances, paired, report, right
from scipy import stats

from modelyard.evaluation.measure import apart, difference, measured
from modelyard.statistics.combined import Share, newcombe, weighted
from modelyard.statistics.intervals import tango, wilson

PERFECT = right(60, 60)
PROPORTIONS = ["accuracy", "recall:bee", "precision:bee", "f1:bee", "recall-macro", "precision-macro", "f1-macro",
               "balanced-accuracy", "f1-weighted", "precision-weighted", "recall-weighted", "f1-micro"]  # fmt: skip


@pytest.mark.parametrize("name", PROPORTIONS)
def test_a_perfect_score_on_sixty_examples_is_not_certain(name):
    metric = measured(PERFECT, name)
    assert (metric.value, metric.high) == (1.0, pytest.approx(1.0))
    assert 0.8 < metric.low < 0.99
    bigger = measured(right(600, 600), name)
    assert metric.low < bigger.low < 1.0


@pytest.mark.parametrize("name", PROPORTIONS)
def test_two_models_that_agree_on_sixty_examples_may_still_differ(name):
    gap = difference(PERFECT, PERFECT, name)
    assert gap.value == 0
    assert gap.low == pytest.approx(-gap.high, abs=1e-6)
    assert 0.005 < gap.high < 0.3


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["auroc", "average-precision"])
def test_a_perfect_ranking_is_not_certain(name, classes):
    labels = [at % classes for at in range(60)]
    rows = tuple(tuple(0.9 if at == label else 0.1 / (classes - 1) for at in range(classes)) for label in labels)
    metric = measured(report(labels, labels, probabilities=rows, classes=("a", "b", "c")[:classes]), name)
    assert metric.value == 1.0
    assert 0.8 < metric.low < 0.99


def test_recall_and_precision_of_one_class_are_proportions_of_its_own_examples():
    labels, predictions = [0] * 20 + [1] * 40, [0] * 15 + [1] * 5 + [1] * 38 + [0] * 2
    one = report(labels, predictions, classes=("no", "yes"))
    recall, precision = measured(one, "recall:no"), measured(one, "precision:no")
    assert (recall.low, recall.high) == pytest.approx(wilson(15, 20))
    assert (precision.low, precision.high) == pytest.approx(wilson(15, 17))
    assert measured(one, "recall").low == pytest.approx(wilson(38, 40).low)


def test_a_mean_of_precisions_is_one_of_answers_and_a_mean_of_recalls_one_of_labels():
    one = report([0] * 30 + [1] * 30, [0] * 30 + [1] * 15 + [0] * 15, classes=("no", "yes"))
    precision, recall = measured(one, "precision-macro"), measured(one, "recall-macro")
    assert (precision.low, precision.high) == pytest.approx(weighted([Share(0.5, 30, 45), Share(0.5, 15, 15)]))
    assert (recall.low, recall.high) == pytest.approx(weighted([Share(0.5, 30, 30), Share(0.5, 15, 30)]))


def test_a_recall_is_compared_on_its_own_examples_by_tangos_interval():
    candidate, champion = paired(30, 2, 300)
    rows = [at for at, label in enumerate(candidate.labels) if label == 1]
    mine = [candidate.predictions[at] == 1 for at in rows]
    theirs = [champion.predictions[at] == 1 for at in rows]
    gained = sum(a and not b for a, b in zip(mine, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(mine, theirs, strict=True))
    gap = difference(candidate, champion, "recall:bee")
    assert (gap.low, gap.high) == pytest.approx(tango(gained, lost, len(rows)))


def test_the_mean_of_recalls_covers_what_it_says():
    """Three classes of 20 examples at recall 0.95: the percentile bootstrap would cover 85 % or less."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(300):
        labels = np.repeat([0, 1, 2], 20)
        wrong = rng.random(60) < 0.05
        one = report(labels.tolist(), np.where(wrong, (labels + 1) % 3, labels).tolist())
        metric = measured(one, "balanced-accuracy")
        covered += metric.low <= 0.95 <= metric.high
    assert covered >= stats.binom.ppf(0.001, 300, 0.95)


def test_a_class_that_nobody_has_is_neither_known_nor_certain():
    one = report([0] * 30, [0] * 30, classes=("ant", "bee"))
    assert (measured(one, "recall:bee").low, measured(one, "recall:bee").high) == (0.0, 1.0)


def test_a_latency_is_bounded_by_order_statistics():
    timed = report((0, 1), (0, 1), latencies_ms=tuple(float(ms) for ms in range(1, 101)))
    metric = measured(timed, "latency-p90")
    assert (metric.value, metric.low, metric.high) == (90.0, 84.0, 96.0)
    assert measured(replace(timed, latencies_ms=(1.0, 2.0, 3.0)), "latency-p90").high == np.inf


def test_the_size_is_what_it_is():
    metric = measured(replace(PERFECT, bytes=1234), "size")
    assert (metric.value, metric.low, metric.high) == (1234.0, 1234.0, 1234.0)


@settings(max_examples=30)
@given(st.integers(0, 30), st.integers(0, 30))
def test_two_samples_apart_are_compared_by_newcombes_interval(one, other):
    gap = apart(measured(right(one, 30), "accuracy"), measured(right(other, 30), "accuracy"))
    assert (gap.low, gap.high) == pytest.approx(newcombe(one, 30, other, 30))


def test_apart_more_is_better_for_a_loss_too():
    labels = [at % 3 for at in range(90)]
    good, bad = chances(labels, firm=3.0), chances(labels, firm=0.5, seed=4)
    one, other = (measured(report(labels, w, probabilities=p), "log-loss") for p, w in (good, bad))
    assert apart(one, other).value > 0
    assert apart(one, other).low == pytest.approx(-apart(other, one).high)
