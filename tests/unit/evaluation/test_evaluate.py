"""The stage: a model folder on a prepared split."""

import json

import pytest

from modelyard.errors import BadInput, StageFailed, Tampered
from modelyard.evaluation.evaluate import FILE, evaluate
from modelyard.evaluation.gate import gate
from modelyard.evaluation.report import EvaluationReport
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.gates import GateRule, Margin
from modelyard.spec.metrics import OwnMetric


def test_every_example_is_in_the_report(yard):
    report = evaluate(
        yard.model(), yard.data(), "test", slices=("region", "label"), work=yard.work, out=yard.home / "out"
    )
    assert report.examples == len(report.ids) == len(report.labels) == len(report.predictions) == 90
    assert len(report.scores) == len(report.probabilities) == len(report.losses) == 90
    assert report.ids[0] == "x0"
    assert report.classes == ("ant", "bee", "cat")
    assert set(report.slices["region"]) == {"north", "south"}
    assert set(report.slices["label"]) == {"ant", "bee", "cat"}
    assert report.metrics["accuracy"].value > 0.95
    assert report.metrics["loss"].value == pytest.approx(report.metrics["log-loss"].value, rel=1e-3)
    assert report.metrics["latency-p50"].low > 0
    assert sum(map(sum, report.confusion)) == 90
    assert sum(one.count for one in report.calibration) == 90
    assert from_json(EvaluationReport, (yard.home / "out" / FILE).read_text()) == report


def test_equal_models_give_equal_answers(yard):
    data = yard.data()
    one = evaluate(yard.model("one"), data, "test", work=yard.work)
    other = evaluate(yard.model("other"), data, "test", work=yard.work)
    assert one.model == other.model
    assert one.predictions == other.predictions
    assert one.metrics["f1-macro"] == other.metrics["f1-macro"]


def test_the_recipes_own_metrics_stand_beside_ours_with_intervals(yard):
    report = evaluate(yard.model(noise=1.0), yard.data(), "test", work=yard.work)
    hits = report.metrics["hits"]
    assert hits.value == report.metrics["accuracy"].value
    assert hits.low < hits.value < hits.high
    assert report.metrics["cost-error"].better == "lower"
    assert "undefined" not in report.metrics
    assert any("undefined" in note for note in report.notes)
    rules = (GateRule(metric="hits", at_least=0.5), GateRule(metric="cost-error", at_most=2.0))
    assert gate(report, None, rules).verdict.lets_through


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_an_own_metric_is_judged_in_the_direction_that_the_project_declares(yard, better):
    data, declared = yard.data(size=300), {"hits": OwnMetric(better=better), "cost-error": OwnMetric(better=better)}
    good = evaluate(yard.model("good"), data, "test", declared=declared, work=yard.work)
    bad = evaluate(yard.model("bad", noise=2.0), data, "test", declared=declared, work=yard.work)
    assert good.metrics["hits"].better == good.metrics["cost-error"].better == better
    for metric, wanted in (("hits", "higher"), ("cost-error", "lower")):
        rules = (GateRule(metric=metric, not_worse_than_champion=Margin(margin=0.02)),)
        expected = "Passed" if better == wanted else "Failed"
        assert gate(good, bad, rules).verdict.outcome == expected


def test_a_better_model_passes_and_a_worse_one_does_not(yard):
    data = yard.data(size=300)
    good = evaluate(yard.model("good"), data, "test", work=yard.work)
    bad = evaluate(yard.model("bad", noise=2.0), data, "test", work=yard.work)
    rules = (GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=0.02)),)
    assert gate(good, bad, rules).verdict.outcome == "Passed"
    assert gate(bad, good, rules).verdict.outcome == "Failed"


def test_a_model_that_learnt_its_classes_in_another_order_is_judged_by_name(yard):
    data = yard.data()
    turned = yard.model("turned", order=(2, 0, 1), classes=("cat", "ant", "bee"))
    report = evaluate(turned, data, "test", work=yard.work)
    assert report.classes == ("ant", "bee", "cat")
    assert report.metrics["accuracy"].value > 0.95
    assert report.metrics["auroc"].value > 0.95


def test_own_metrics_of_a_model_with_another_order_of_classes_see_the_datas_classes(yard):
    """Its own index 0 is another class than the label 0: its metric would call right answers wrong."""
    data, declared = yard.data(), {"hits": OwnMetric(better="higher")}
    turned = evaluate(
        yard.model("turned", order=(2, 0, 1), classes=("cat", "ant", "bee")), data, "test",
        declared=declared, work=yard.work,
    )  # fmt: skip
    same = evaluate(yard.model("same"), data, "test", declared=declared, work=yard.work)
    assert turned.metrics["hits"].value == turned.metrics["accuracy"].value == same.metrics["hits"].value
    rules = (GateRule(metric="hits", not_worse_than_champion=Margin(margin=0.0)),)
    assert gate(same, turned, rules).verdict.lets_through


def test_a_champion_that_never_learnt_a_class_is_not_compared_with(yard):
    data = yard.data(size=300)
    old = evaluate(yard.model("old", classes=("ant", "bee", "wasp")), data, "test", work=yard.work)
    new = evaluate(yard.model("new"), data, "test", work=yard.work)
    assert (old.never_learnt, new.never_learnt) == (("cat",), ())
    with pytest.raises(BadInput, match=r"champion never learnt cat.*Leave the comparison out"):
        gate(new, old, (GateRule(metric="accuracy", not_worse_than_champion=Margin(margin=0.02)),))
    assert gate(new, old, (GateRule(metric="accuracy", at_least=0.1),)).verdict.lets_through


def test_of_a_larger_split_examples_are_taken_evenly(yard):
    report = evaluate(yard.model(), yard.data(size=100), "test", most=25, shown=(), work=yard.work)
    assert report.ids == tuple(f"x{at}" for at in range(0, 100, 4))
    assert set(report.metrics) == {"hits", "cost-error"}


def test_predictions_by_name_count_as_classes(yard):
    assert evaluate(yard.model(broken="names"), yard.data(), "test", work=yard.work).metrics["accuracy"].value > 0.95


def test_a_built_in_recipe_is_evaluated_too(yard):
    assert evaluate(yard.model(own="mlp"), yard.data(), "test", work=yard.work).metrics["accuracy"].value > 0.95


def test_a_loss_that_needs_a_whole_batch_is_left_out_with_a_note(yard):
    report = evaluate(yard.model(broken="pairs"), yard.data(), "test", work=yard.work)
    assert report.losses == ()
    assert "loss" not in report.metrics
    assert any("needs pairs" in note for note in report.notes)


def test_progress_is_told(yard):
    told = []
    evaluate(yard.model(), yard.data(), "test", work=yard.work, progress=lambda what, share: told.append((what, share)))
    assert told
    assert all(0 <= share <= 1 for _, share in told)


def test_a_report_is_plain_json(yard):
    report = evaluate(yard.model(), yard.data(), "test", work=yard.work)
    json.dumps(json.loads(to_json(report)), allow_nan=False)


# bad input


def test_an_answer_of_nan_is_an_error_that_names_the_example(yard):
    with pytest.raises(StageFailed, match="nan for example x0"):
        evaluate(yard.model(broken="nan"), yard.data(), "test", work=yard.work, out=yard.home / "out")
    assert not (yard.home / "out").exists()


@pytest.mark.parametrize(("broken", "named"), [("stranger", "no class"), ("few", "1 predictions for 90")])
def test_answers_that_do_not_fit_are_refused(yard, broken, named):
    with pytest.raises(BadInput, match=named):
        evaluate(yard.model(broken=broken), yard.data(), "test", work=yard.work)


def test_an_unknown_slice_is_refused_with_the_columns_there_are(yard):
    with pytest.raises(BadInput, match="region"):
        evaluate(yard.model(), yard.data(), "test", slices=("regoin",), work=yard.work)


def test_an_unknown_split_is_refused(yard):
    with pytest.raises(BadInput, match="tset"):
        evaluate(yard.model(), yard.data(), "tset", work=yard.work)


def test_an_empty_split_is_refused(yard):
    with pytest.raises(BadInput, match="no examples"):
        evaluate(yard.model(), yard.data(size=0), "test", work=yard.work)


def test_weights_that_were_changed_are_not_opened(yard):
    model = yard.model()
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(Tampered, match="safetensors"):
        evaluate(model, yard.data(), "test", work=yard.work)


def test_a_folder_that_holds_no_model_is_refused(yard):
    with pytest.raises(BadInput):
        evaluate(yard.home / "src", yard.data(), "test", work=yard.work)
