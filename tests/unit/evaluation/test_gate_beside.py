"""Rules that look at more than one split: anchors, overfit, golden sets, gaps between slices, models trained anew."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import paired, report, right
from scipy.stats import t

from modelyard.errors import BadInput
from modelyard.evaluation.evidence import Beside, Evidence, Folds, Golden
from modelyard.evaluation.gate import gate
from modelyard.evaluation.report import EvaluationReport
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.gates import Anchor, CrossValidation, GateRule, Margin
from modelyard.units import Duration, Quantity
from modelyard.verdict import Outcome, Reason, Verdict

ANCHOR = GateRule(metric="accuracy", not_worse_than_anchor=Anchor(version="1", margin=0.02))
OVERFIT = GateRule(metric="accuracy", max_overfit=0.05)
GAP = GateRule(metric="accuracy", max_gap=0.1, slice="region")
GOLDEN = GateRule(no_regression_on="hard.csv")
FOLDS = GateRule(metric="accuracy", at_least=0.9, cross_validated=CrossValidation(folds=5, repeats=2))


def renamed(made: EvaluationReport, prefix: str) -> EvaluationReport:
    return replace(made, ids=tuple(f"{prefix}{name}" for name in made.ids))


def decided(rule: GateRule, candidate: EvaluationReport | None = None, champion=None, **beside):
    return gate(candidate or right(530, 540), champion, (rule,), beside=Beside(**beside)).rules[0]


# anchors


def test_a_slow_erosion_is_stopped_by_the_anchor():
    """Each version half a point worse than the last passes a margin of two points; six of them are three points."""
    last = gate(
        *paired(3, 6, 2000), (GateRule(metric="accuracy", not_worse_than_champion=ANCHOR.not_worse_than_anchor),)
    )
    candidate, first = paired(2, 120, 2000)
    result = decided(ANCHOR, candidate, anchors={"1": first})
    assert last.verdict.outcome == Outcome.PASSED
    assert (result.verdict.outcome, result.against) == (Outcome.FAILED, "version 1")
    assert "against version 1's" in result.verdict.message


def test_an_anchor_is_judged_whether_there_is_a_champion_or_not():
    candidate, first = paired(40, 2, 2000)
    assert decided(ANCHOR, candidate, anchors={"1": first}).verdict.reason == Reason.NOT_WORSE


def test_an_anchor_that_is_gone_is_inconclusive():
    gone = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.VERSION_MISSING, message="version 1 is not registered")
    result = decided(ANCHOR, anchors={"1": gone})
    assert (result.verdict.outcome, result.verdict.reason) == (Outcome.INCONCLUSIVE, Reason.VERSION_MISSING)


def test_an_anchor_that_counts_classes_in_another_order_is_compared_by_name():
    candidate = report((0, 1, 2) * 200, (0, 1, 2) * 200)
    anchor = report((2, 1, 0) * 200, (2, 1, 0) * 200, classes=("cat", "bee", "ant"))
    assert decided(ANCHOR, candidate, anchors={"1": anchor}).other.value == 1.0


# overfit


@pytest.mark.parametrize(("learnt", "unseen", "outcome"), [
    (990, 265, Outcome.PASSED), (1000, 255, Outcome.INCONCLUSIVE), (1000, 230, Outcome.FAILED),
    (900, 265, Outcome.PASSED),
])  # fmt: skip
def test_the_gap_between_training_and_validation_is_judged_by_its_bound(learnt, unseen, outcome):
    splits = {"train": renamed(right(learnt, 1000), "t"), "validation": renamed(right(unseen, 270), "v")}
    result = decided(OVERFIT, splits=splits)
    assert result.verdict.outcome == outcome
    assert result.difference.value == pytest.approx(learnt / 1000 - unseen / 270)
    assert (result.against, result.examples) == ("the training split", 270)


def test_an_overfit_that_270_examples_cannot_see_says_how_many_would_do():
    splits = {"train": renamed(right(1000, 1000), "t"), "validation": renamed(right(255, 270), "v")}
    assert decided(OVERFIT, splits=splits).needed > 270


def test_splits_that_share_examples_are_refused():
    with pytest.raises(BadInput, match="270 examples are in the training and in the validation split, such as 'e0'"):
        decided(OVERFIT, splits={"train": right(1000, 1000), "validation": right(250, 270)})


# gaps between slices


def sliced(rates: dict[str, float], size: int) -> EvaluationReport:
    labels, predictions, values = [], [], []
    for name, rate in rates.items():
        for at in range(size):
            labels.append(at % 3)
            predictions.append(at % 3 if at < round(rate * size) else (at + 1) % 3)
            values.append(name)
    return report(labels, predictions, slices={"region": tuple(values)})


@pytest.mark.parametrize(("rates", "outcome", "pair"), [
    ({"a": 0.99, "b": 0.98, "c": 0.97}, Outcome.PASSED, ("c", "region=a")),
    ({"a": 0.99, "b": 0.91, "c": 0.97}, Outcome.INCONCLUSIVE, ("b", "region=a")),
    ({"a": 0.99, "b": 0.70, "c": 0.60}, Outcome.FAILED, ("c", "region=a")),
])  # fmt: skip
def test_the_widest_gap_between_two_slices_decides(rates, outcome, pair):
    result = decided(GAP, sliced(rates, 300))
    assert (result.verdict.outcome, (result.slice, result.against)) == (outcome, pair)


def test_a_gap_of_a_loss_names_the_slice_that_is_worse():
    made = replace(sliced({"a": 1.0, "b": 1.0}, 200), losses=(0.1, 0.2) * 100 + (1.1, 1.2) * 100)
    result = decided(GateRule(metric="loss", max_gap=0.5, slice="region"), made)
    assert (result.verdict.outcome, result.slice, result.against) == (Outcome.FAILED, "b", "region=a")


def test_among_many_pairs_one_that_is_wide_by_chance_is_inconclusive():
    rates = {"odd": 0.88, **{f"s{at}": 1.0 for at in range(12)}}
    result = decided(replace(GAP, max_gap=0.05), sliced(rates, 80))
    assert result.verdict.outcome == Outcome.INCONCLUSIVE
    assert "pairs of slices that may be chance (Holm's correction)" in result.verdict.message
    alone = decided(replace(GAP, max_gap=0.05), sliced({"odd": 0.86, "s": 1.0}, 80))
    assert alone.verdict.outcome == Outcome.FAILED


@pytest.mark.parametrize(("values", "words"), [(["x"], "one value only"), ([f"v{at}" for at in range(60)], "too many")])
def test_a_column_whose_values_cannot_be_compared_is_refused(values, words):
    with pytest.raises(BadInput, match=words):
        decided(GAP, sliced(dict.fromkeys(values, 1.0), 3))


# golden sets


def test_one_example_that_only_the_champion_has_right_fails_the_golden_set():
    candidate, champion = paired(9, 1, 30)
    result = decided(GOLDEN, golden={"hard.csv": Golden(candidate=candidate, champion=champion)})
    assert (result.verdict.outcome, result.verdict.reason) == (Outcome.FAILED, Reason.REGRESSION)
    assert (
        "1 of the 21 that the champion answers rightly are wrong now: e9 (ant taken for bee)" in result.verdict.message
    )


def test_better_answers_never_fail_a_golden_set():
    candidate, champion = paired(9, 0, 30)
    result = decided(GOLDEN, golden={"hard.csv": Golden(candidate=candidate, champion=champion)})
    assert (result.verdict.outcome, result.verdict.reason) == (Outcome.PASSED, Reason.NO_REGRESSION)


def test_a_golden_set_without_a_champion_passes_and_with_one_that_is_gone_does_not():
    made = right(20, 30)
    gone = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.CHAMPION_UNAVAILABLE, message="its archive is gone")
    assert decided(GOLDEN, golden={"hard.csv": Golden(candidate=made)}).verdict.reason == Reason.NO_CHAMPION
    result = decided(GOLDEN, golden={"hard.csv": Golden(candidate=made, champion=gone)})
    assert (result.verdict.outcome, result.verdict.reason) == (Outcome.INCONCLUSIVE, Reason.CHAMPION_UNAVAILABLE)


def test_texts_of_a_golden_set_are_quoted():
    candidate = report(["a b", "c"], ["a b", "d"], kind="text")
    champion = report(["a b", "c"], ["a b", "c"], kind="text")
    result = decided(GOLDEN, golden={"hard.csv": Golden(candidate=candidate, champion=champion)})
    assert "e1 ('c' taken for 'd')" in result.verdict.message


# models trained anew


def test_a_recipe_is_judged_by_the_mean_of_its_trainings_with_a_corrected_interval():
    reports = tuple(right(100 + at % 4, 108) for at in range(10))
    result = decided(FOLDS, folds={"5x2": Folds(reports=reports, test_to_train=0.25)})
    assert result.candidate.value == pytest.approx(sum(100 + at % 4 for at in range(10)) / 1080)
    assert result.candidate.low < result.candidate.value < result.candidate.high
    assert result.examples == 540
    assert result.verdict.outcome == Outcome.PASSED
    unsure = decided(replace(FOLDS, at_least=0.94), folds={"5x2": Folds(reports=reports, test_to_train=0.25)})
    assert unsure.verdict.outcome == Outcome.INCONCLUSIVE
    assert "more examples or repeats would tell more" in unsure.verdict.message


FOLDED = replace(FOLDS, at_least=None, not_worse_than_champion=Margin(margin=0.02))


def trained_anew(hits, prefix: str = "f") -> Folds:
    """Ten trainings, each on its part of 108 examples."""
    reports = tuple(replace(right(hit, 108), split_digest=f"sha256:{prefix}{at}") for at, hit in enumerate(hits))
    return Folds(reports=reports, test_to_train=0.25)


THEIRS = [80 + 2 * at for at in range(10)]
GAINS = [1, 0, 2, 1, 0, 1, 2, 0, 1, 1]
MINE = [other + gain for other, gain in zip(THEIRS, GAINS, strict=True)]


def folded(mine, theirs, rule=FOLDED):
    """Beside a champion that is there."""
    candidate, champion = paired(5, 5, 500)
    kept = {"folds": {"5x2": trained_anew(mine)}, "champion_folds": {} if theirs is None else {"5x2": theirs}}
    return decided(rule, candidate, champion, **kept)


def test_recipes_are_compared_part_by_part_so_that_hard_parts_do_not_blur_it():
    """The corrected t of Nadeau and Bengio on the pairs' differences, by scipy."""
    result = folded(MINE, trained_anew(THEIRS))
    gains = np.array(GAINS) / 108
    half = t.ppf(0.975, 9) * np.sqrt((1 / 10 + 0.25) * gains.var(ddof=1))
    assert (result.difference.low, result.difference.high) == pytest.approx((gains.mean() - half, gains.mean() + half))
    assert (result.verdict.outcome, result.verdict.reason) == (Outcome.PASSED, Reason.NOT_WORSE)
    assert result.candidate.low < result.other.value < result.candidate.high, "unpaired, nothing could be told"
    better = replace(FOLDED, not_worse_than_champion=None, better_than_champion=True)
    assert folded(MINE, trained_anew(THEIRS), better).verdict.outcome == Outcome.INCONCLUSIVE
    much = [other + 4 * gain for other, gain in zip(THEIRS, [1, 1, 2, 1, 1, 1, 2, 1, 1, 1], strict=True)]
    assert folded(much, trained_anew(THEIRS), better).verdict.outcome == Outcome.PASSED
    assert folded(THEIRS, trained_anew(much), replace(FOLDED, confidence=0.9)).verdict.outcome == Outcome.FAILED


def test_a_cross_validation_of_other_data_or_none_at_all_is_no_comparison():
    other = folded(MINE, trained_anew(THEIRS, "g"))
    assert (other.verdict.outcome, other.verdict.reason) == (Outcome.INCONCLUSIVE, Reason.CHAMPION_UNAVAILABLE)
    assert "the champion was cross-validated on other data" in other.verdict.message
    assert folded(MINE, None).verdict.reason == Reason.NOT_RECORDED
    gone = Verdict(
        outcome=Outcome.INCONCLUSIVE, reason=Reason.CHAMPION_UNAVAILABLE, message="version 2 has no evidence"
    )
    assert folded(MINE, gone).verdict.message == "accuracy: version 2 has no evidence"
    first = decided(FOLDED, folds={"5x2": trained_anew(MINE)})
    assert (first.verdict.outcome, first.verdict.reason) == (Outcome.PASSED, Reason.NO_CHAMPION)


# what serves


@pytest.mark.parametrize(("rule", "outcome"), [
    (GateRule(max_latency=Duration("20ms")), "Passed"),
    (GateRule(metric="latency-p50", max_latency=Duration("1ms")), "Failed"),
    (GateRule(max_size=Quantity("2k")), "Passed"),
    (GateRule(max_size=Quantity("1k")), "Failed"),
])  # fmt: skip
def test_latency_and_size_have_limits_with_units(rule, outcome):
    made = replace(right(9, 10), bytes=1500, latencies_ms=tuple(2.0 + at / 100 for at in range(100)))
    assert decided(rule, made).verdict.outcome == outcome


def test_a_calibration_error_is_held_against_its_upper_bound():
    rows = tuple((0.75, 0.25) for _ in range(400))
    honest = report([0] * 300 + [1] * 100, [0] * 400, probabilities=rows, classes=("no", "yes"))
    boastful = report([0] * 200 + [1] * 200, [0] * 400, probabilities=rows, classes=("no", "yes"))
    rule = GateRule(max_calibration_error=0.1)
    assert decided(rule, honest).verdict.outcome == Outcome.PASSED
    assert decided(rule, boastful).verdict.outcome == Outcome.FAILED


# evidence


@pytest.mark.parametrize("rule", [ANCHOR, OVERFIT, GOLDEN, FOLDS], ids=["anchor", "overfit", "golden", "folds"])
def test_a_rule_whose_evidence_was_not_kept_never_passes(rule):
    result = decided(rule)
    assert (result.verdict.outcome, result.verdict.reason) == (Outcome.INCONCLUSIVE, Reason.NOT_RECORDED)


def test_evidence_survives_its_file():
    candidate, champion = paired(9, 1, 30)
    gone = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.VERSION_MISSING, message="gone")
    kept = Evidence(
        candidate=candidate,
        champion=champion,
        beside=Beside(anchors={"1": gone, "2": champion}, golden={"g": Golden(candidate=candidate, champion=gone)}),
    )
    assert from_json(Evidence, to_json(kept)) == kept


# what must always hold

ORDER = {Outcome.FAILED: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASSED: 2}


@settings(max_examples=25, deadline=None)
@given(gained=st.integers(0, 30), lost=st.integers(0, 30), limit=st.floats(0, 0.2), wider=st.floats(0, 0.2))
def test_more_margin_never_turns_any_rule_from_passed_to_failed(gained, lost, limit, wider):
    candidate, other = paired(gained, lost, 200)
    splits = {"train": renamed(candidate, "t"), "validation": renamed(other, "v")}
    halves = replace(candidate, slices={"region": ("a", "b") * 100})

    def outcomes(allowed: float) -> list[int]:
        rules = (
            replace(ANCHOR, not_worse_than_anchor=Anchor(version="1", margin=allowed)),
            replace(OVERFIT, max_overfit=allowed),
            replace(GAP, max_gap=allowed),
        )
        said = gate(halves, None, rules, beside=Beside(anchors={"1": other}, splits=splits))
        return [ORDER[result.verdict.outcome] for result in said.rules]

    assert all(more >= less for more, less in zip(outcomes(limit + wider), outcomes(limit), strict=True))


@settings(max_examples=25, deadline=None)
@given(gained=st.integers(0, 40), lost=st.integers(0, 40))
def test_swapping_candidate_and_champion_swaps_better_and_worse(gained, lost):
    one, other = paired(gained, lost, 200)
    better = GateRule(metric="accuracy", better_than_champion=True)
    there = gate(one, other, (better,)).verdict.outcome
    back = gate(other, one, (better,)).verdict.outcome
    assert {Outcome.PASSED: Outcome.FAILED, Outcome.FAILED: Outcome.PASSED}.get(there, there) == back
