"""What is tried next, and who stays in the race."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.compression.report import Estimate
from modelyard.compression.search import CALIBRATE, CUT, KEEP, Candidate, fitting, follow_ups, survivors

ALLOWED = {"accuracy": 0.02}
INT8, PRUNED = (CALIBRATE, KEEP), (CUT,)


def drop(high: float) -> dict[str, Estimate]:
    return {"accuracy": Estimate(value=0.0, low=-high, high=high)}


def next_of(candidate: Candidate, tunes=INT8, *, high: float, least: float = 0.01, seconds=1.0, best=math.inf):
    return follow_ups(
        candidate, tunes=tunes, drop=drop(high), least=drop(least), allowed=ALLOWED, seconds=seconds, best=best
    )


def test_one_that_loses_too_much_keeps_more_of_its_layers_and_is_calibrated_on_more():
    first = Candidate(variant="onnx-int8")
    tried = [first]
    while found := next_of(tried[-1], high=0.05):
        tried += found
    assert [one.name for one in tried] == [
        "onnx-int8", "onnx-int8-calibrate1024-keep1", "onnx-int8-calibrate1024-keep2",
        "onnx-int8-calibrate1024-keep4", "onnx-int8-calibrate1024-keep8",
    ]  # fmt: skip


def test_one_within_the_budget_needs_no_other_settings():
    assert next_of(Candidate(variant="onnx-int8"), high=0.02) == ()


def test_pruning_goes_deeper_while_it_may_and_back_where_it_lost_too_much():
    half = Candidate(variant="pruned")
    assert [one.name for one in next_of(half, PRUNED, high=0.01)] == ["pruned-cut0.75"]
    (less,) = next_of(half, PRUNED, high=0.05)
    assert less.setting(CUT) == 0.25
    assert next_of(less, PRUNED, high=0.05) == ()


@pytest.mark.parametrize(
    "why",
    [{"seconds": 2.0, "best": 1.0}, {"least": 0.03}, {"seconds": math.nan}],
    ids=["slower than the best", "too few examples to show anything", "its time is unknown"],
)
def test_time_is_not_spent_on_one_that_cannot_win(why):
    assert next_of(Candidate(variant="onnx-int8"), high=0.05, **why) == ()


def test_without_a_budget_nothing_follows():
    found = follow_ups(
        Candidate(variant="pruned"), tunes=PRUNED, drop={}, least={}, allowed={}, seconds=1.0, best=math.inf
    )
    assert found == ()


def test_a_setting_without_a_value_is_the_usual_one():
    assert Candidate(variant="onnx-int8").setting(CALIBRATE) == 256


def around(value: float, noise: float = 0.01) -> Estimate:
    return Estimate(value=value, low=value - noise, high=value + noise)


def test_the_slower_half_leaves_but_whom_the_clock_cannot_tell_from_the_best_stays():
    costs = {"a": around(0.2), "b": around(0.21), "c": around(0.5), "d": around(0.215, 0.02), "e": around(0.9)}
    yes = dict.fromkeys(costs, True)
    assert survivors(costs, yes) == ("a", "b", "d")
    assert survivors({name: around(cost.value, 0.0) for name, cost in costs.items()}, yes) == ("a", "b", "d")
    assert survivors({"a": around(0.2), "z": around(0.6)}, {"a": True, "z": True}) == ("a",)


def test_whoever_may_not_be_chosen_leaves_and_so_does_one_without_a_time():
    costs = {"a": around(0.2), "b": around(0.3), "c": None, "d": around(math.nan)}
    assert survivors(costs, {"a": False, "b": True, "c": True, "d": True}) == ("b",)
    assert survivors({"a": around(0.2)}, {"a": False}) == ()


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0.01, 2), max_size=9))
def test_the_fastest_always_survives(costs):
    kept = survivors({name: around(cost) for name, cost in costs.items()}, dict.fromkeys(costs, True))
    assert not costs or min(costs, key=lambda name: costs[name]) in kept


def test_the_fastest_are_timed_as_many_as_there_is_time_for_and_one_in_any_case():
    seconds = {"slow": 5.0, "fast": 1.0, "middling": 2.0}
    assert fitting(seconds, 3.0) == ("fast", "middling")
    assert fitting(seconds, 0.0) == ("fast",)
    assert fitting({}, 1.0) == ()
