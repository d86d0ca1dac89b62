"""What holds for any counters; and what no analysis can act on."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.rollout.played import BOTH, ERRORS, ERRORS_ONLY, P90, fed, plain, steady

from modelyard.errors import BadInput
from modelyard.rollout import analysis
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisStep,
    MetricMargin,
    SetWeight,
)
from modelyard.units import Duration, Percentage
from modelyard.verdict import Outcome

# bad input


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (replace(BOTH, false_alarm_rate=Percentage("0%")), "falseAlarmRate"),
        (replace(BOTH, false_alarm_rate=Percentage("60%")), "falseAlarmRate"),
        (replace(BOTH, miss_rate=Percentage("0%")), "missRate"),
        (replace(BOTH, min_requests=0), "minRequests"),
        (replace(BOTH, warmup_requests=-1), "warmupRequests"),
        (replace(BOTH, max_duration=Duration("0s")), "maxDuration"),
        (replace(BOTH, bursts=Duration("2m")), "bursts"),
        (replace(BOTH, metrics=()), "nothing"),
        (replace(BOTH, metrics=(ERRORS, ERRORS)), "error-rate"),
        (replace(BOTH, metrics=(replace(ERRORS, name="error-rat"),)), "error-rat"),
        (replace(BOTH, metrics=(replace(P90, name="latency-p0"),)), "latency-p0"),
        (
            replace(BOTH, metrics=(replace(P90, margin=MetricMargin(type="Absolute", value=Percentage("5%"))),)),
            "Absolute",
        ),
        (replace(BOTH, metrics=(replace(P90, margin=MetricMargin(type="Relative", value=Percentage("2%"))),)), "finer"),
        (replace(BOTH, metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage("0%"))),)), "0%"),
        (
            replace(BOTH, metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage("100%"))),)),
            "100%",
        ),
    ],
)
def test_an_analysis_that_cannot_come_to_a_verdict_is_refused(spec, named):
    with pytest.raises(BadInput, match=named):
        analysis.begin(spec, now=0.0)


def test_a_step_that_names_a_metric_nobody_analyses_is_refused():
    steps = (AnalysisStep(analysis=AnalysisGate(margins={"latency-p99": Percentage("50%")})),)
    with pytest.raises(BadInput, match="latency-p99"):
        analysis.begin(BOTH, now=0.0, steps=steps)


# properties


@settings(max_examples=60, deadline=None)
@given(
    looks=st.lists(
        st.tuples(
            st.integers(0, 80), st.integers(0, 80), st.integers(0, 20), st.integers(0, 20), st.sampled_from("....nrxd")
        ),
        max_size=60,
    )
)
def test_whatever_the_counters_do_the_evidence_stays_finite_and_its_checkpoint_whole(looks):
    """n: canary missing; r: canary restarts; x: nonsense; d: the last reading once more."""
    stable, canary = [500, 5], [0, 0]
    evidence = analysis.begin(ERRORS_ONLY, now=0.0)
    for at, (ns, nc, ks, kc, kind) in enumerate(looks):
        if kind == "r":
            canary = [0, 0]
        if kind != "d":
            stable = [stable[0] + ns, stable[1] + min(ks, ns)]
            canary = [canary[0] + nc, canary[1] + min(kc, nc)]
        right = None if kind == "n" else plain(at, *canary)
        if kind == "x":
            right = plain(at, -1, 5)
        evidence = analysis.look(evidence, ERRORS_ONLY, now=at, stable=plain(at, *stable), canary=right)
    for log in (*(alarm.log_e for alarm in evidence.alarms), *(trial.log_e for trial in evidence.trials)):
        assert math.isfinite(log)
    assert from_json(analysis.Evidence, to_json(evidence)) == evidence


@settings(max_examples=40, deadline=None)
@given(errors=st.integers(0, 9), at=st.integers(5, 39))
def test_more_errors_of_the_canary_never_help_it(errors, at):
    readings = steady(40)
    worse = [
        (stable, replace(canary, errors=canary.errors + (errors + 1 if place >= at else 0)))
        for place, (stable, canary) in enumerate(readings)
    ]
    good, bad = fed(readings[: at + 1]), fed(worse[: at + 1])
    assert bad.alarms[0].log_e >= good.alarms[0].log_e
    assert bad.trials[0].log_e <= good.trials[0].log_e


@settings(max_examples=30, deadline=None)
@given(narrow=st.integers(2, 30), more=st.integers(1, 40))
def test_more_margin_is_never_harder_for_a_canary_without_errors(narrow, more):
    def evidence(points: int) -> float:
        spec = Analysis(
            metrics=(replace(ERRORS, margin=MetricMargin(type="Absolute", value=Percentage(f"{points}%"))),)
        )
        return fed(steady(12), spec).trials[0].log_e

    assert evidence(narrow + more) >= evidence(narrow) - 1e-9


BLOCKS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 60), st.integers(0, 60)), min_size=5, max_size=40
)
"""Requests of both arms, and their errors, at each look."""


def _played(blocks, spec=ERRORS_ONLY, *, swapped=False, steps=()):
    """Evidence of these blocks, both arms with the same past; the canary's warm-up is left out of the spec."""
    evidence = analysis.begin(replace(spec, warmup_requests=0), now=0.0, steps=steps)
    arms = [[200, 4], [200, 4]]
    for at, (ns, nc, ks, kc) in enumerate([(0, 0, 0, 0), *blocks]):
        for arm, (requests, hits) in zip(arms, ((ns, ks), (nc, kc)), strict=True):
            arm[0] += requests
            arm[1] += min(hits, requests)
        stable, canary = (plain(at, *arm) for arm in (arms[::-1] if swapped else arms))
        evidence = analysis.look(evidence, spec, now=at, stable=stable, canary=canary)
    return evidence


@settings(max_examples=40, deadline=None)
@given(blocks=BLOCKS)
def test_arms_that_are_swapped_do_not_both_fail_on_average(blocks):
    """Of the estimates of both ways round, weighed alike, one at most is beyond the margin."""
    here, there = (_played(blocks, swapped=swapped).trials[0] for swapped in (False, True))
    assert not (here.excess > 0 and there.excess > 0)


@settings(max_examples=40, deadline=None)
@given(blocks=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=5, max_size=40))
def test_arms_that_do_exactly_the_same_are_never_failed(blocks):
    evidence = _played([(n, n, k, k) for n, k in blocks])
    said = analysis.verdict(evidence, ERRORS_ONLY, now=100.0)
    assert said is None or said.outcome is Outcome.SUCCESSFUL


@settings(max_examples=40, deadline=None)
@given(blocks=BLOCKS, more=st.integers(6, 60))
def test_what_is_beyond_a_wide_margin_is_beyond_a_narrow_one(blocks, more):
    wide = {"error-rate": Percentage(f"{more}%")}
    steps = (SetWeight(set_weight=5), AnalysisStep(analysis=AnalysisGate(margins=wide)))
    evidence = _played(blocks, steps=steps)
    narrow, broad = evidence.trial("error-rate", Percentage("5%")), evidence.trial("error-rate", wide["error-rate"])
    assert narrow.beyond or not broad.beyond


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["none", "nan", "negative"]), min_size=1, max_size=30))
def test_missing_empty_or_nan_evidence_never_promotes(kinds):
    made = {"none": None, "nan": plain(math.nan, 10), "negative": plain(1.0, -5)}
    evidence = fed([(plain(at, 1000 + 100 * at), made[kind]) for at, kind in enumerate(kinds)])
    for now in (10.0, 1e6):
        said = analysis.verdict(evidence, ERRORS_ONLY, now=now)
        assert said is None or not said.lets_through
