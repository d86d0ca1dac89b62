"""Envoy's answer as counters."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.rollout.analysis import LATENCY_BOUNDS_MS
from modelyard.rollout.laptop.counters import counts_in

ARM = "default/digits/a1"


def ended(code: int, flags: str, value: int) -> dict:
    return {"name": f"attempts.ended.arm.{ARM}.code.{code}.flags.{flags}", "value": value}


def untried(what: str, value: int) -> dict:
    return {"name": f"cluster.{ARM}.upstream_{what}", "value": value}


def times(*bins: tuple[float, float, int]) -> dict:
    totals = [{"lower_bound": low, "width": width, "count": count} for low, width, count in bins]
    return {"histograms": {"details": [{"name": f"attempts.time.arm.{ARM}", "totals": totals}]}}


def read(*stats: dict):
    return counts_in({"stats": [untried("cx_none_healthy", 0), *stats]}, at=7.0)[ARM]


@pytest.mark.parametrize(
    ("stats", "requests", "errors"),
    [
        ([ended(200, "-", 5)], 5, 0),
        ([ended(400, "-", 5)], 5, 5),
        ([ended(500, "-", 5)], 5, 5),
        ([ended(0, "UF,URX", 2), ended(200, "-", 3)], 5, 2),
        ([ended(0, "UT", 2)], 2, 2),
        ([ended(200, "UR", 2)], 2, 2),
        ([ended(0, "-", 2)], 0, 0),
        ([untried("rq_timeout", 3)], 3, 3),
        ([untried("cx_none_healthy", 3)], 3, 3),
    ],
    ids=[
        "answers are no errors",
        "a refusal is an error too: both arms get the same requests",
        "a 5xx is an error",
        "no connection is an error",
        "a timeout of an attempt is an error",
        "an answer that broke off is an error",
        "what the client gave up is nothing",
        "a timeout of the whole request is an error",
        "no server left is an error",
    ],
)
def test_what_an_attempt_counts_as(stats, requests, errors):
    seen = read(*stats)
    assert (seen.requests, seen.errors) == (requests, errors)


def test_an_arm_that_envoy_does_not_know_is_absent():
    assert counts_in({"stats": [ended(200, "-", 5)]}, at=0) == {}


def test_an_arm_whose_name_holds_dots_is_told_apart():
    name = "default/digits.v2/a.1"
    answer = {
        "stats": [
            {"name": f"cluster.{name}.upstream_cx_none_healthy", "value": 0},
            {"name": f"attempts.ended.arm.{name}.code.200.flags.-", "value": 4},
        ]
    }
    assert counts_in(answer, at=0)[name].requests == 4


def test_bounds_are_numbers_that_envoy_can_tell_apart_and_close_enough():
    """Envoy's default buckets (10, 25, 50, 100, 250 ms) cannot see a change of 10 %."""
    assert all(bound == float(f"{bound:.1e}") for bound in LATENCY_BOUNDS_MS)
    assert all(1 < later / earlier <= 1.1 + 1e-9 for earlier, later in pairwise(LATENCY_BOUNDS_MS))
    assert LATENCY_BOUNDS_MS[0] <= 0.5
    assert LATENCY_BOUNDS_MS[-1] >= 20_000


def test_a_bin_counts_below_its_upper_end():
    seen = read(times((1000, 100, 3), (9900, 100, 2), (30_000_000, 1_000_000, 1)))
    at = dict(zip(seen.bounds, seen.latency, strict=False))
    assert (at[1.0], at[1.1], at[9.6], at[10.0], at[20_000.0], seen.latency[-1]) == (0, 3, 3, 5, 5, 6)


@given(st.lists(st.tuples(st.integers(10, 99), st.integers(0, 6), st.integers(0, 1000)), max_size=30))
def test_cumulative_counts_only_rise_and_lose_nothing(bins):
    totals = [(digits * 10.0**power, 10.0**power, count) for digits, power, count in bins]
    seen = read(times(*totals))
    assert list(seen.latency) == sorted(seen.latency)
    assert seen.latency[-1] == sum(count for _, _, count in totals)
    for bound, count in zip(seen.bounds, seen.latency, strict=False):
        assert count <= sum(n for low, _, n in totals if low < bound * 1000)
