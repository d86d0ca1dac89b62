"""Every metric against scikit-learn's."""

import numpy as np
import pytest
from made import chances, report
from sklearn import metrics as sk

from modelyard.errors import BadInput
from modelyard.evaluation.measure import available, difference, measured
from modelyard.evaluation.metrics import METRICS, definition

RNG = np.random.default_rng(1)
LABELS = tuple(RNG.integers(0, 3, 200).tolist())
CHANCES, WINNERS = chances(LABELS, firm=1.2)
THREE = report(LABELS, WINNERS, probabilities=CHANCES, scores=tuple(max(row) for row in CHANCES))
TWO_LABELS = tuple(RNG.integers(0, 2, 150).tolist())
TWO_CHANCES, TWO_WINNERS = chances(TWO_LABELS, seed=3, firm=1.0, classes=2)
TWO = report(TWO_LABELS, TWO_WINNERS, probabilities=TWO_CHANCES, classes=("no", "yes"))
NUMBERS = tuple(RNG.normal(size=80).tolist())
GUESSES = tuple((np.array(NUMBERS) + RNG.normal(0, 0.3, 80)).tolist())
REAL = report(NUMBERS, GUESSES, kind="number")

ONE_HOT = np.eye(3)[list(LABELS)]
EXPECTED = {
    "accuracy": sk.accuracy_score(LABELS, WINNERS),
    "balanced-accuracy": sk.balanced_accuracy_score(LABELS, WINNERS),
    **{
        f"{name}-{how}": function(LABELS, WINNERS, average=how)
        for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score))
        for how in ("macro", "micro", "weighted")
    },
    "f1": sk.f1_score(LABELS, WINNERS, average="macro"),
    "f1:bee": sk.f1_score(LABELS, WINNERS, average=None)[1],
    "recall:cat": sk.recall_score(LABELS, WINNERS, average=None)[2],
    "auroc": sk.roc_auc_score(LABELS, CHANCES, multi_class="ovr", average="macro"),
    "average-precision": sk.average_precision_score(ONE_HOT, CHANCES, average="macro"),
    "log-loss": sk.log_loss(LABELS, CHANCES),
    "brier": np.mean(((np.array(CHANCES) - ONE_HOT) ** 2).sum(1)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_metrics_of_classes_agree_with_scikit_learn(name):
    metric = measured(THREE, name)
    assert metric.value == pytest.approx(EXPECTED[name], abs=1e-6)
    assert metric.low <= metric.value <= metric.high
    assert metric.high - metric.low < 0.5


@pytest.mark.parametrize(("name", "expected"), [
    ("f1", sk.f1_score(TWO_LABELS, TWO_WINNERS)),
    ("precision", sk.precision_score(TWO_LABELS, TWO_WINNERS)),
    ("recall", sk.recall_score(TWO_LABELS, TWO_WINNERS)),
    ("auroc", sk.roc_auc_score(TWO_LABELS, [row[1] for row in TWO_CHANCES])),
    ("average-precision", sk.average_precision_score(TWO_LABELS, [row[1] for row in TWO_CHANCES])),
])  # fmt: skip
def test_of_two_classes_the_second_is_the_positive_one(name, expected):
    assert measured(TWO, name).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("name", "expected"), [
    ("mae", sk.mean_absolute_error(NUMBERS, GUESSES)),
    ("mse", sk.mean_squared_error(NUMBERS, GUESSES)),
    ("rmse", sk.root_mean_squared_error(NUMBERS, GUESSES)),
    ("r2", sk.r2_score(NUMBERS, GUESSES)),
])  # fmt: skip
def test_metrics_of_numbers_agree_with_scikit_learn(name, expected):
    metric = measured(REAL, name)
    assert metric.value == pytest.approx(expected, rel=1e-9)
    assert metric.low < expected < metric.high


def test_equal_scores_count_half_in_auroc():
    tied = report((0, 1, 0, 1), (1, 1, 1, 1), probabilities=((0.5, 0.5),) * 4, classes=("no", "yes"))
    assert measured(tied, "auroc").value == 0.5


def test_calibration_error_of_a_model_that_is_right_as_often_as_it_says_is_zero():
    rows = tuple((0.75, 0.25) for _ in range(100))
    honest = report([0] * 75 + [1] * 25, [0] * 100, probabilities=rows, classes=("no", "yes"))
    assert measured(honest, "ece").value == pytest.approx(0.0, abs=1e-9)
    boastful = report([0] * 50 + [1] * 50, [0] * 100, probabilities=rows, classes=("no", "yes"))
    assert measured(boastful, "ece").value == pytest.approx(0.25)


def test_word_and_character_errors_count_edits():
    spoken = report(["the cat sat", "on a mat"], ["the cat sat down", "on mat"], kind="text")
    assert measured(spoken, "wer").value == pytest.approx(2 / 6)
    assert measured(spoken, "cer").value == pytest.approx((5 + 2) / 19)
    assert measured(spoken, "accuracy").value == 0.0


def test_perplexity_is_that_of_the_mean_loss():
    spoken = report(["a", "b"], ["a", "c"], kind="text", losses=(1.0, 3.0))
    assert measured(spoken, "perplexity").value == pytest.approx(np.exp(2.0))
    assert "perplexity" not in available(report([0, 1], [0, 1], losses=(1.0, 3.0)))


def test_latency_percentiles_are_those_of_the_sample():
    timed = report((0, 1), (0, 1), latencies_ms=tuple(float(ms) for ms in range(1, 101)))
    assert measured(timed, "latency-p50").value == 50.0
    assert measured(timed, "latency-p90").value == 90.0


def test_a_slice_is_measured_on_its_examples_alone():
    rows = np.flatnonzero(np.array(LABELS) == 1)
    expected = np.mean([WINNERS[row] == 1 for row in rows])
    assert measured(THREE, "accuracy", rows=rows).value == pytest.approx(expected)
    assert measured(THREE, "recall:bee", rows=rows).value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["f1-macro", "log-loss", "auroc", "recall:cat", "accuracy"])
def test_swapping_the_models_turns_the_difference_around(name):
    other_chances, other_winners = chances(LABELS, seed=9, firm=0.8)
    other = report(LABELS, other_winners, probabilities=other_chances)
    one, back = difference(THREE, other, name), difference(other, THREE, name)
    assert one.value == pytest.approx(-back.value)
    assert one.value > 0  # more is better for every metric, also for a loss
    assert one.low == pytest.approx(-back.high)


def test_a_paired_interval_is_narrower_than_two_apart():
    worse = list(WINNERS)
    worse[0] = (LABELS[0] + 1) % 3
    almost = report(LABELS, worse, probabilities=CHANCES)
    gap, alone = difference(THREE, almost, "f1-macro"), measured(THREE, "f1-macro")
    assert gap.high - gap.low < (alone.high - alone.low) / 2


@pytest.mark.parametrize(
    ("asked", "near"), [("acuracy", "accuracy"), ("f1_macro", "f1-macro"), ("logloss2", "log-loss")]
)
def test_an_unknown_metric_is_refused_with_the_nearest_name(asked, near):
    with pytest.raises(BadInput, match=f"mean {near}"):
        definition(asked)


def test_a_metric_that_the_report_cannot_give_is_refused():
    bare = report(LABELS, WINNERS)
    assert "auroc" not in available(bare)
    with pytest.raises(BadInput, match="auroc"):
        measured(bare, "auroc")
    with pytest.raises(BadInput, match="dog"):
        measured(THREE, "f1:dog")
    with pytest.raises(BadInput, match="rmse"):
        measured(THREE, "rmse")


def test_every_metric_says_which_way_is_better():
    losses = {name for name, one in METRICS.items() if one.better == "lower"}
    assert losses == {"log-loss", "brier", "ece", "mae", "mse", "rmse", "word-error-rate", "character-error-rate",
                      "perplexity", "loss", "latency-p50", "latency-p90"}  # fmt: skip
