"""Counters as they come: resets, gaps, doubled and late readings; and the checkpoint of what they said."""

import math
import random
from dataclasses import replace

import pytest
from tests.unit.rollout.played import BOTH, BOUNDS, ERRORS_ONLY, Arm, fed, plain, roll, steady

from modelyard.rollout import analysis, streams
from modelyard.rollout.evidence import HISTORY
from modelyard.rollout.observation import Counts
from modelyard.spec.codec import from_json, to_json
from modelyard.verdict import Outcome

# counters as they come


def test_a_duplicated_scrape_changes_nothing():
    once, twice = steady(30), [pair for pair in steady(30) for _ in range(3)]
    one, many = fed(once), fed(twice)
    assert one.alarms == many.alarms
    assert one.trials == many.trials


def test_a_missing_arm_is_absent_and_never_zero():
    readings = steady(30)
    holes = [(stable if at % 3 else None, canary if at % 4 else None) for at, (stable, canary) in enumerate(readings)]
    evidence = fed(holes)
    assert evidence.attempts.canary.counted > 200
    assert evidence.trials[0].log_e > 1
    assert evidence.tallies["error-rate"].canary_hits == 0


def test_a_reset_drops_its_block_and_goes_on():
    before, after = steady(20), steady(60)
    evidence = fed([*before, *((replace(s, at=s.at + 20), replace(c, at=c.at + 20)) for s, c in after)])
    assert evidence.attempts.skipped == 1
    assert evidence.tallies["error-rate"].canary == 20 * 10 - 20 + 59 * 10
    assert analysis.verdict(evidence, ERRORS_ONLY, now=80.0).outcome == Outcome.SUCCESSFUL


def test_a_reset_of_one_arm_never_looks_like_errors():
    readings = steady(30)
    stable, _ = readings[-1]
    restarted = [(plain(30 + at, stable.requests + 100 * at), plain(30 + at, 10 * at)) for at in range(20)]
    evidence = fed([*readings, *restarted])
    assert evidence.tallies["error-rate"].canary_hits == 0


def test_a_late_reading_is_not_counted_twice():
    readings = steady(30)
    shuffled = [*readings[:20], readings[15], readings[10], *readings[20:]]
    assert fed(shuffled).alarms == fed(readings).alarms


def test_a_clock_that_steps_back_stops_nothing():
    readings = [(replace(s, at=s.at - 1000 * (at > 15)), replace(c, at=c.at - 1000 * (at > 15)))
                for at, (s, c) in enumerate(steady(30))]  # fmt: skip
    assert fed(readings).alarms == fed(steady(30)).alarms


@pytest.mark.parametrize("bad", [
    {"requests": -1}, {"errors": -1}, {"errors": 10**9}, {"requests": math.nan}, {"at": math.inf}, {"errors": math.nan},
])  # fmt: skip
def test_a_reading_that_makes_no_sense_is_ignored_and_counted(bad):
    readings = steady(30)
    stable, canary = readings[14]
    broken = [*readings[:15], (stable, replace(canary, **bad)), *readings[15:]]
    evidence = fed(broken)
    assert evidence.ignored == 1
    assert evidence.alarms == fed(readings).alarms


@pytest.mark.parametrize("latency", [(1,), (3, 2, 1), (-1, 0, 5), (1, math.nan, 5)])
def test_a_histogram_that_makes_no_sense_is_no_evidence(latency):
    bad = Counts(at=1.0, requests=5, errors=0, latency=latency, bounds=(1.0, 2.0))
    assert streams.answers(bad) is None


def test_histograms_with_different_bounds_are_not_compared():
    stable, canary = Arm(random.Random(1)).serve(500), Arm(random.Random(2)).serve(100)
    other = replace(canary.counts(1.0), bounds=tuple(bound * 2 for bound in BOUNDS))
    evidence = analysis.look(analysis.begin(BOTH, now=0), BOTH, now=1, stable=stable.counts(1.0), canary=other)
    assert evidence.ignored == 1


def test_warm_up_of_a_new_arm_is_left_out():
    """Its first 5 requests fail, as those of cold workers may."""
    readings = [(plain(at, 1000 + 100 * at), plain(at, 5 * at, min(5 * at, 5))) for at in range(100)]
    evidence = fed(readings)
    assert evidence.tallies["error-rate"].canary_hits == 0
    assert analysis.verdict(evidence, ERRORS_ONLY, now=100.0).outcome == Outcome.SUCCESSFUL


def test_traffic_on_one_arm_alone_is_no_evidence():
    canary_only = [(plain(at, 1000), plain(at, 100 * at, 90 * at)) for at in range(60)]
    stable_only = [(plain(at, 1000 + 100 * at), plain(at, 50)) for at in range(60)]
    for readings in (canary_only, stable_only):
        evidence = fed(readings)
        assert evidence.alarms[0].blocks == 0
        assert analysis.verdict(evidence, ERRORS_ONLY, now=60.0) is None


def test_a_block_in_which_an_arm_stood_still_for_minutes_is_dropped():
    readings = [(plain(0, 1000), plain(0, 100)), (plain(1, 1100), plain(1, 110)),
                (plain(2, 1100), plain(2, 210, 100)), (plain(400, 1100), plain(400, 310, 200)),
                (plain(401, 1200), plain(401, 320, 200))]  # fmt: skip
    evidence = fed(readings, replace(ERRORS_ONLY, warmup_requests=0))
    assert evidence.attempts.skipped == 1
    assert evidence.tallies["error-rate"].canary_hits == 0


def test_nothing_is_bet_before_stable_has_a_past():
    readings = [(plain(at, 10 * at), plain(at, 10 * at, 10 * at)) for at in range(5)]
    assert fed(readings, replace(ERRORS_ONLY, warmup_requests=0)).alarms[0].blocks == 0


# the checkpoint


def test_a_checkpoint_is_the_evidence():
    _, evidence, _ = roll(BOTH)
    text = to_json(evidence)
    again = from_json(analysis.Evidence, text)
    assert again == evidence
    assert to_json(again) == text


def test_looks_go_on_from_a_checkpoint_as_if_nothing_had_happened():
    unbroken, broken = analysis.begin(ERRORS_ONLY, now=0.0), analysis.begin(ERRORS_ONLY, now=0.0)
    for at, (stable, canary) in enumerate(steady(50, canary_errors=1)):
        unbroken = analysis.look(unbroken, ERRORS_ONLY, now=at, stable=stable, canary=canary)
        broken = from_json(analysis.Evidence, to_json(broken))
        broken = analysis.look(broken, ERRORS_ONLY, now=at, stable=stable, canary=canary)
    assert broken == unbroken


def test_its_size_does_not_grow_with_the_number_of_requests():
    short, long = fed(steady(300)), fed(steady(900))
    assert len(long.history) <= HISTORY
    assert long.history[-1].at == 899
    assert len(to_json(long)) < 1.2 * len(to_json(short))
