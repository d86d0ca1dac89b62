"""Splits whose per-example results do not fit: the same metrics from sums, and comparisons that are still paired."""

import numpy as np
import pytest
import sklearn.metrics as sklearn
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
NAMES = ("ant", "bee", "cat")


def streamed(kind, labels, predictions, *, classes=NAMES, probabilities=(), slices=None) -> Stream:
    stream = Stream(kind, list(classes))
    for start in range(0, len(labels), SIZE):
        rows = slice(start, start + SIZE)
        kept = Answers(
            ids=[f"e{at}" for at in range(len(labels))][rows], labels=list(labels[rows]),
            predictions=list(predictions[rows]), probabilities=list(probabilities[rows]),
            slices={name: list(values[rows]) for name, values in (slices or {}).items()},
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
        near = {"auroc": 1e-4, "average-precision": 5e-4}.get(name, 1e-9)  # by scores in fine bins
        assert values[0] == pytest.approx(expected.value, abs=near), name
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


@pytest.mark.parametrize("count", [2, 3], ids=["two classes", "more classes"])
def test_rankings_and_metrics_of_one_class_are_scikit_learns(count):
    """Scores of two decimals, so that many tie; each class against the rest is scikit-learn's macro average."""
    labels = [at % count for at in range(900)]
    rows = [tuple(round(one, 2) for one in row[:count]) for row in chances(labels, firm=1.2)[0]]
    winners = [row.index(max(row)) for row in rows]
    found = streamed("class", labels, winners, classes=NAMES[:count], probabilities=rows).replicates()
    table, truth = np.asarray(rows), np.eye(count)[labels]
    shown = (truth[:, 1], table[:, 1]) if count == 2 else (truth, table)
    assert found["auroc"][0] == pytest.approx(sklearn.roc_auc_score(*shown), abs=1e-12)
    assert found["average-precision"][0] == pytest.approx(sklearn.average_precision_score(*shown), abs=1e-12)
    each = sklearn.precision_recall_fscore_support(labels, winners)
    for name, values in zip(("precision", "recall", "f1"), each[:3], strict=True):
        assert [found[f"{name}:{one}"][0] for one in NAMES[:count]] == pytest.approx(values, abs=1e-12)


def test_scores_that_never_tie_are_ranked_almost_to_the_digit():
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 4000)
    scores = 1 / (1 + np.exp(-(rng.normal(0, 2, 4000) + 2 * labels)))
    rows = [(1 - one, one) for one in scores.tolist()]
    winners = (scores > 0.5).astype(int).tolist()
    values = streamed("class", labels.tolist(), winners, classes=NAMES[:2], probabilities=rows).replicates()
    assert values["auroc"][0] == pytest.approx(sklearn.roc_auc_score(labels, scores), abs=1e-5)
    assert values["average-precision"][0] == pytest.approx(sklearn.average_precision_score(labels, scores), abs=2e-4)


def test_of_very_many_classes_single_ones_are_left_out_and_said_to_be():
    names = [f"c{at}" for at in range(21)]
    stream = streamed("class", [at % 21 for at in range(210)], [at % 21 for at in range(210)], classes=names)
    assert "recall:c0" not in stream.replicates()
    assert stream.notes == ("auroc, average-precision, metrics of one class: not summed of more than 20 classes",)


def test_a_slice_has_the_sums_of_its_own_examples():
    regions = ["north" if at % 5 else "south" for at in range(900)]
    stream = streamed("class", LABELS, WINNERS, probabilities=ROWS, slices={"region": regions})
    assert {name: part.examples for name, part in stream.parts.items()} == {
        ("region", "north"): 720, ("region", "south"): 180,
    }  # fmt: skip
    rows = [at for at, one in enumerate(regions) if one == "south"]
    alone = report([LABELS[at] for at in rows], [WINNERS[at] for at in rows], probabilities=[ROWS[at] for at in rows])
    found = stream.parts["region", "south"].replicates()
    for name in ("accuracy", "f1-macro", "recall:bee", "log-loss", "auroc"):
        assert found[name][0] == pytest.approx(point(alone, name), abs=1e-4), name


@pytest.mark.usefixtures("small")
def test_slices_of_a_large_split_are_judged_one_by_one_and_beside_the_champion(yard):
    data = yard.data(size=600)
    good = evaluate(yard.model("good", noise=0.3), data, "test", slices=("region",), work=yard.work)
    bad = evaluate(yard.model("bad", noise=2.0), data, "test", slices=("region",), work=yard.work)
    assert (good.slices, sum(one.examples for one in good.summed["region"].values())) == ({}, 600)
    rule = GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=0.02), slice="region")
    passed, failed = gate(good, bad, (rule,)).rules, gate(bad, good, (rule,)).rules
    assert {one.slice for one in passed} == set(good.summed["region"])
    assert {one.verdict.outcome for one in passed} == {"Passed"}
    assert {one.verdict.outcome for one in failed} == {"Failed"}
    assert sum(one.examples for one in passed) == 600
    (gap,) = gate(good, None, (GateRule(metric="recall:ant", slice="region", max_gap=0.5),)).rules
    assert gap.verdict.lets_through
    assert from_json(EvaluationReport, to_json(good)) == good


def test_a_column_of_too_many_values_is_refused_while_its_examples_are_not_kept():
    with pytest.raises(BadInput, match="day has more than 50 values in a split whose examples are too many"):
        streamed("number", [1.0] * 60, [1.0] * 60, slices={"day": [str(at) for at in range(60)]})


@pytest.mark.usefixtures("small")
def test_large_splits_that_are_not_the_same_are_not_compared(yard):
    good = evaluate(yard.model(), yard.data(size=600), "test", work=yard.work)
    moved = EvaluationReport(**{**good.__dict__, "split_digest": "sha256:other"})
    with pytest.raises(BadInput, match="different splits"):
        gate(good, moved, (GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=0.02)),))
