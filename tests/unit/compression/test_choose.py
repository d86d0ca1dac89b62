"""Which variant serves."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.compression.choose import choose
from modelyard.compression.report import REFERENCE, Estimate, VariantResult
from modelyard.spec.gates import Compress

SPEC = Compress(max_drop={"accuracy": 0.02})


def around(value: float, noise: float = 0.0) -> Estimate:
    return Estimate(value=value, low=value - noise, high=value + noise)


def variant(
    name: str, *, cost: float, noise: float = 0.02, drop: float = 0.0, bound: float = 0.01, **more
) -> VariantResult:
    return VariantResult(
        name=name,
        bytes=more.pop("bytes", 1000),
        ratio=around(cost, noise),
        drop={"accuracy": Estimate(value=drop, low=drop - 0.01, high=bound)},
        **more,
    )


FP32 = VariantResult(name=REFERENCE, kind="eager", bytes=4000)


def chosen(*variants: VariantResult, spec: Compress = SPEC) -> str:
    return choose([FP32, *variants], spec, examples=270).name


def test_the_fastest_within_the_budget_is_chosen():
    assert chosen(variant("onnx", cost=0.5), variant("onnx-int8", cost=0.3)) == "onnx-int8"


def test_one_whose_drop_may_exceed_the_budget_is_not_chosen_though_its_point_does_not():
    lossy = variant("onnx-int8", cost=0.2, drop=0.004, bound=0.021)
    assert chosen(variant("onnx", cost=0.5), lossy) == "onnx"
    choice = choose([FP32, lossy], SPEC, examples=120)
    assert choice.name == REFERENCE
    assert choice.variants[1].within_budget is False
    assert "accuracy may drop by 0.0210 > 0.02" in choice.variants[1].note
    assert "120 examples" in choice.variants[1].note


def test_a_drop_bound_that_meets_the_budget_exactly_is_within_it():
    assert chosen(variant("onnx", cost=0.5, bound=0.02)) == "onnx"


def test_one_that_is_faster_only_by_noise_is_not_chosen():
    assert chosen(variant("onnx", cost=0.97, noise=0.03)) == REFERENCE
    assert chosen(variant("onnx", cost=0.97, noise=0.02)) == "onnx"


def test_a_slower_one_is_not_chosen():
    assert chosen(variant("bf16", cost=2.5)) == REFERENCE


def test_among_those_that_the_clock_cannot_tell_apart_the_least_lossy_is_chosen():
    lossy = variant("onnx-int8", cost=0.30, noise=0.05, bound=0.018)
    exact = variant("onnx", cost=0.32, noise=0.05, bound=0.010)
    assert chosen(lossy, exact) == "onnx"


def test_then_the_smallest():
    big = variant("torchscript", cost=0.30, noise=0.05, bytes=5000)
    small = variant("onnx", cost=0.32, noise=0.05, bytes=800)
    assert chosen(big, small) == "onnx"


def test_one_that_failed_is_not_chosen_and_keeps_its_reason():
    broken = VariantResult(name="onnx", failure="its process crashed (signal 11)")
    choice = choose([FP32, broken], SPEC, examples=270)
    assert choice.name == REFERENCE
    assert choice.variants[1].note == "failed: its process crashed (signal 11)"


@pytest.mark.parametrize(
    "broken",
    [
        variant("onnx", cost=math.nan),
        variant("onnx", cost=0.3, noise=math.nan),
        variant("onnx", cost=0.3, bound=math.nan),
        replace(variant("onnx", cost=0.3), ratio=None),
        replace(variant("onnx", cost=0.3), drop={}),
    ],
    ids=["a cost that is NaN", "noise that is NaN", "a drop that is NaN", "no time", "no drop"],
)
def test_missing_evidence_never_chooses(broken: VariantResult):
    assert chosen(broken) == REFERENCE


def test_without_a_budget_nothing_may_be_lost():
    choice = choose([FP32, variant("onnx", cost=0.1, bound=0.0)], Compress(), examples=270)
    assert choice.name == REFERENCE
    assert "no maxDrop" in choice.reason


def test_every_budgeted_metric_must_be_within_its_budget():
    spec = Compress(max_drop={"accuracy": 0.02, "log-loss": 0.1})
    fast = variant("onnx", cost=0.3)
    assert chosen(replace(fast, drop={**fast.drop, "log-loss": around(0.2)}), spec=spec) == REFERENCE
    assert chosen(replace(fast, drop={**fast.drop, "log-loss": around(0.05)}), spec=spec) == "onnx"


def test_the_reason_shows_both_sides():
    choice = choose([FP32, variant("onnx", cost=0.5)], SPEC, examples=270)
    assert choice.reason == "onnx: latency-p50 0.50 [0.48, 0.52] × fp32; accuracy drops by at most 0.0100 ≤ 0.02"


numbers = st.floats(0.01, 3) | st.just(math.nan)
variants = st.lists(
    st.builds(variant, st.sampled_from(["onnx", "onnx-int8", "bf16"]), cost=numbers, noise=numbers, bound=numbers),
    unique_by=lambda made: made.name,
)


@given(variants, st.floats(0, 1), st.floats(0, 1))
def test_a_wider_budget_never_makes_the_choice_slower_beyond_noise(made, one: float, other: float):
    narrow, wide = sorted((one, other))
    costs = {result.name: result.ratio for result in made} | {REFERENCE: around(1.0)}
    before = chosen(*made, spec=Compress(max_drop={"accuracy": narrow}))
    after = chosen(*made, spec=Compress(max_drop={"accuracy": wide}))
    best = min((costs[name] for name in {before, after}), key=lambda cost: cost.value)
    assert costs[after].value <= best.high


@given(variants, st.floats(0, 1))
def test_what_is_chosen_is_within_the_budget_and_faster(made, budget: float):
    choice = choose([FP32, *made], Compress(max_drop={"accuracy": budget}), examples=100)
    taken = next(result for result in choice.variants if result.name == choice.name)
    if choice.name != REFERENCE:
        assert taken.within_budget
        assert taken.drop["accuracy"].high <= budget
        assert taken.ratio.high < 1
