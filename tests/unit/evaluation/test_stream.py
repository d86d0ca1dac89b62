"""Splits whose per-example results do not fit: the same metrics from sums, and comparisons that are still paired."""

import numpy as np
import pytest
from made import chances, report

from modelyard.errors import BadInput
from modelyard.evaluation import evaluate as stage
from modelyard.evaluation.evaluate import evaluate
from modelyard.evaluation.gate import gate
from modelyard.evaluation.measure import difference, measured, point
from modelyard.evaluation.predict import Answers
from modelyard.evaluation.report import EvaluationReport
from modelyard.evaluation.stream import RESAMPLES, Stream
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.gates import GateRule, Margin

LABELS = [at % 3 for at in range(900)]
ROWS, WINNERS = chances(LABELS, firm=1.2)
SIZE = 128


def streamed(kind, labels, predictions, *, classes=3, probabilities=()) -> Stream:
    stream = Stream(kind, classes)
    for start in range(0, len(labels), SIZE):
        rows = slice(start, start + SIZE)
        kept = Answers(
            ids=[f"e{at}" for at in range(len(labels))][rows], labels=list(labels[rows]),
            predictions=list(predictions[rows]), probabilities=list(probabilities[rows]),
        )  # fmt: skip
        stream.add(kept)
        assert kept.ids == kept.labels == kept.probabilities == []
    return stream


@pytest.mark.parametrize(("kind", "labels", "predictions", "probabilities"), [
    ("class", LABELS, WINNERS, ROWS),
    ("number", [at * 0.1 for at in range(300)], [at * 0.1 + (at % 7) / 5 for at in range(300)], ()),
    ("text", ["a cat sat"] * 200, ["a cat sat", "cat sat", "a dog sits", "a cat sat"] * 50, ()),
], ids=["classes", "numbers", "texts"])  # fmt: skip
def test_sums_give_the_metrics_that_the_examples_give(kind, labels, predictions, probabilities):
    whole = report(labels, predictions, kind=kind, probabilities=tuple(probabilities))
    found = streamed(kind, labels, predictions, probabilities=probabilities).replicates()
    assert len(found) >= 3
    for name, values in found.items():
        expected = measured(whole, name)
        assert values[0] == pytest.approx(expected.value, abs=1e-9), name
        assert len(values) == 1 + RESAMPLES
        low, high = np.quantile(values[1:], [0.025, 0.975])
        assert high - low == pytest.approx(expected.high - expected.low, rel=0.35, abs=1e-4), name


def test_the_confusion_matrix_counts_every_example():
    matrix = streamed("class", LABELS, WINNERS).confusion()
    assert matrix.sum() == len(LABELS)
    assert matrix[1, 2] == sum(a == 1 and b == 2 for a, b in zip(LABELS, WINNERS, strict=True))


def test_without_probabilities_there_is_no_log_loss():
    assert "log-loss" not in streamed("class", LABELS, WINNERS).replicates()


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(stage, "STREAMED_FROM", 50)


@pytest.mark.usefixtures("small")
def test_a_large_split_is_judged_without_keeping_its_examples(yard):
    data = yard.data(size=600)
    good = evaluate(yard.model("good", noise=0.3), data, "test", work=yard.work)
    bad = evaluate(yard.model("bad", noise=2.0), data, "test", work=yard.work)
    assert (good.ids, good.labels, good.probabilities, good.examples) == ((), (), (), 600)
    assert sum(map(sum, good.confusion)) == 600
    assert good.metrics["accuracy"].low < good.metrics["accuracy"].value < good.metrics["accuracy"].high + 1e-9
    assert good.metrics["log-loss"].better == "lower"
    assert "loss" not in good.metrics
    rules = tuple(GateRule(metric=name, not_worse_than_champion=Margin(margin=0.02)) for name in ("accuracy", "brier"))
    assert gate(good, bad, rules).verdict.lets_through
    assert [result.verdict.outcome for result in gate(bad, good, rules).rules] == ["Failed", "Failed"]
    assert from_json(EvaluationReport, to_json(good)) == good


def test_what_is_streamed_agrees_with_what_is_kept(yard, monkeypatch):
    data = yard.data(size=600)
    models = [yard.model("good", noise=0.5), yard.model("bad", noise=1.0)]
    kept = [evaluate(model, data, "test", shown=(), work=yard.work) for model in models]
    monkeypatch.setattr(stage, "STREAMED_FROM", 50)
    summed = [evaluate(model, data, "test", shown=(), work=yard.work) for model in models]
    for name in ("accuracy", "f1-macro", "log-loss", "ece"):
        assert summed[0].metrics[name].value == pytest.approx(point(kept[0], name), abs=1e-6)
        one, other = difference(*kept, name), difference(*summed, name)
        assert other.value == pytest.approx(one.value, abs=1e-6)
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.3)


@pytest.mark.usefixtures("small")
def test_slices_of_a_large_split_are_refused(yard):
    with pytest.raises(BadInput, match="split 'test' has 600 examples, too many to keep those of a slice apart"):
        evaluate(yard.model(), yard.data(size=600), "test", slices=("region",), work=yard.work)


@pytest.mark.usefixtures("small")
def test_large_splits_that_are_not_the_same_are_not_compared(yard):
    good = evaluate(yard.model(), yard.data(size=600), "test", work=yard.work)
    moved = EvaluationReport(**{**good.__dict__, "split_digest": "sha256:other"})
    with pytest.raises(BadInput, match="different splits"):
        gate(good, moved, (GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=0.02)),))
