"""From the times of rounds to numbers."""

import numpy as np
import pytest

from modelyard.compression.measure import calls_for, cosine, ratio, summarize
from modelyard.model.node import node_type


def times(milliseconds: float, *, seed: int, rounds: int = 24, calls: int = 40, drift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    load = 1 + drift * np.linspace(0, 1, rounds)[:, None]
    return milliseconds / 1e3 * load * rng.lognormal(0, 0.05, size=(rounds, calls))


def compared(mine: np.ndarray, theirs: np.ndarray, objective="latency-p50"):
    return ratio(
        objective, lone=mine, full=mine, size=10, reference_lone=theirs, reference_full=theirs, reference_size=40
    )


def test_a_lone_request_gives_latency_and_a_full_batch_throughput():
    measured = summarize(times(2, seed=0), times(8, seed=1), batch_size=16)
    assert measured.p50_ms == pytest.approx(2, rel=0.02)
    assert measured.p99_ms > measured.p50_ms
    assert measured.throughput == pytest.approx(2000, rel=0.02)


@pytest.mark.parametrize("objective", ["latency-p50", "latency-p99", "throughput"])
def test_a_ratio_lies_in_its_interval_and_near_the_truth(objective):
    found = compared(times(1, seed=0), times(4, seed=1), objective)
    assert found.low <= found.value <= found.high
    assert found.low <= 0.25 * 1.02
    assert found.high >= 0.25 * 0.98


def test_latency_is_compared_by_lone_requests_and_throughput_by_full_batches():
    halved, same = times(1, seed=0), times(2, seed=1)
    mine = {"lone": halved, "full": same, "size": 1}
    theirs = {"reference_lone": same, "reference_full": same, "reference_size": 1}
    assert ratio("latency-p50", **mine, **theirs).high < 0.6
    assert ratio("latency-p99", **mine, **theirs).high < 0.7
    assert ratio("throughput", **mine, **theirs).value == pytest.approx(1, abs=0.01)


def test_too_few_rounds_show_nothing():
    found = compared(times(1, seed=0, rounds=7), times(9, seed=1, rounds=7))
    assert (found.low, found.high) == (0, float("inf"))
    assert compared(times(1, seed=0, rounds=8), times(9, seed=1, rounds=8)).high < 0.2


def test_equal_variants_are_not_told_apart():
    wins = [compared(times(1, seed=2 * at), times(1, seed=2 * at + 1)).high < 1 for at in range(60)]
    assert sum(wins) <= 3


def test_a_machine_that_slows_down_three_times_in_the_run_leaves_the_ratio_as_it_is():
    found = compared(times(1, seed=0, drift=2.0), times(1.25, seed=1, drift=2.0))
    assert found.high < 1
    assert found.value == pytest.approx(0.8, rel=0.03)


def test_a_size_has_no_noise():
    found = compared(times(1, seed=0), times(1, seed=1), "size")
    assert (found.low, found.value, found.high) == (0.25, 0.25, 0.25)


def test_calls_fill_a_block_within_bounds():
    calls = {seconds: calls_for(seconds, 0.012) for seconds in (0.0, 1e-6, 1e-3, 0.005, 0.1, 2.0)}
    assert calls == {0.0: 60, 1e-6: 60, 1e-3: 12, 0.005: 3, 0.1: 1, 2.0: 1}


def test_the_node_type_names_what_changes_the_ranking():
    assert node_type("flags\t: fpu sse2 avx512_vnni amx") == "cpu-vnni"
    assert node_type("flags\t: fpu sse2 avx2") == "cpu"


def test_outputs_of_one_direction_agree_and_nan_does_not():
    assert cosine(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == pytest.approx(1)
    assert np.isnan(cosine(np.array([np.nan, 2.0]), np.array([2.0, 4.0])))
