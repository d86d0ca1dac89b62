"""Bursts that hit one arm alone."""

import math
import random
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rollout.played import BOTH, ERRORS_ONLY, fed, plain, roll, steady

from modelyard.rollout import analysis, bursts
from modelyard.statistics.evalues import Block
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason

BURSTS = replace(ERRORS_ONLY, bursts=Duration("10s"))


def _bursty(spec, *, seed, looks=900, rate=0.01, worse=0.0, share=0.5):
    """A rollout whose arms each fail half of their answers for 5 looks, now and then."""
    rng = random.Random(seed)
    arms, left, evidence = [[1000, 10], [0, 0]], [0, 0], analysis.begin(spec, now=0.0)
    for at in range(looks):
        for arm, requests in enumerate((round(40 * (1 - share)), round(40 * share))):
            left[arm] = 5 if rng.random() < 0.006 else left[arm] - 1
            chance = rate + worse * arm + 0.5 * (left[arm] > 0)
            arms[arm][0] += requests
            arms[arm][1] += sum(rng.random() < chance for _ in range(requests))
        evidence = analysis.look(evidence, spec, now=at, stable=plain(at, *arms[0]), canary=plain(at, *arms[1]))
        said = analysis.verdict(evidence, spec, now=at)
        if said is not None and said.outcome is Outcome.FAILED:
            return said
    return said


def test_bursts_that_hit_each_arm_by_itself_abort_an_identical_canary_only_where_they_are_not_reckoned_with():
    """Requests of a burst are not independent: the plain test takes them for as many (simulated)."""
    seeds = range(4)
    plain = [_bursty(ERRORS_ONLY, seed=seed) for seed in seeds]
    robust = [_bursty(BURSTS, seed=seed) for seed in seeds]
    assert sum(said is not None and said.outcome is Outcome.FAILED for said in plain) >= 1
    assert all(said is None or said.outcome is not Outcome.FAILED for said in robust)


def test_with_bursts_a_canary_that_is_worse_all_the_time_is_failed():
    said = _bursty(BURSTS, seed=1, worse=0.2)
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.ERROR_RATE)


@pytest.mark.parametrize("spec", [BURSTS, replace(BOTH, bursts=Duration("4s"))], ids=["errors", "errors and latency"])
def test_with_bursts_a_canary_as_good_as_stable_is_successful(spec):
    assert roll(spec, base=0.01, errors=0.01, share=0.5, per_look=20)[0].outcome == Outcome.SUCCESSFUL


def test_with_bursts_a_block_lasts_three_times_as_long():
    evidence = fed(steady(200), BURSTS)
    assert evidence.alarms[0].blocks == 6
    assert evidence.attempts.block_s == 30.0


def test_with_bursts_a_clock_that_steps_back_begins_the_blocks_time_anew():
    readings = [(replace(s, at=s.at - 1000 * (at > 15)), replace(c, at=c.at - 1000 * (at > 15)))
                for at, (s, c) in enumerate(steady(100))]  # fmt: skip
    assert fed(readings, BURSTS).alarms[0].blocks == 2


@given(hits=st.integers(0, 9), others=st.integers(0, 9), size=st.integers(1, 9), cap=st.floats(0.01, 1.0))
def test_a_larger_canary_counts_as_the_mean_of_its_parts_of_stables_size(hits, others, size, cap):
    if hits + others <= size:
        return
    every = [1] * hits + [0] * others
    parts = [min(sum(part) / size, cap) for part in combinations(every, size)]
    found = bursts.capped(Block(hits + others, hits), size, cap)
    assert found == pytest.approx(sum(parts) / len(parts), abs=1e-9)


@pytest.mark.parametrize(("ns", "nc"), [(6, 6), (8, 3), (3, 8), (1, 5)])
@pytest.mark.parametrize("rates", [{0.1: 1.0}, {0.0: 0.9, 0.8: 0.1}, {0.02: 0.7, 0.5: 0.3}])
@pytest.mark.parametrize("gap", [0.01, 0.1, 0.3])
def test_a_block_of_bursts_is_worth_at_most_1_to_the_alarm_where_both_arms_have_the_same_law(ns, nc, rates, gap):
    """Exactly, over all outcomes: each arm by itself draws its rate, then its hits."""

    def chance(n, k):
        return sum(weight * math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for rate, weight in rates.items())

    total = [0.0] * len(bursts.ALARMS)
    for ks in range(ns + 1):
        for kc in range(nc + 1):
            worths, here = bursts.worths((Block(ns, ks), Block(nc, kc)), 0.05, gap), chance(ns, ks) * chance(nc, kc)
            total = [sum_ + here * math.exp(worth) for sum_, worth in zip(total, worths, strict=True)]
    assert max(total) <= 1 + 1e-12
