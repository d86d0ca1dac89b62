"""Whether both arms predict the same classes as often."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import BadInput
from modelyard.rollout import analysis, drift
from modelyard.rollout.evidence import Trial
from modelyard.rollout.observation import Counts
from modelyard.rollout.streams import Arm, Closed, Stream
from modelyard.spec.deployment import Analysis, AnalysisMetric, MetricMargin
from modelyard.units import Duration, Percentage
from modelyard.verdict import Outcome, Reason

DRIFT = AnalysisMetric(name="prediction-drift", margin=MetricMargin(type="Absolute", value=Percentage("10%")))
SPEC = Analysis(metrics=(DRIFT,))
EVEN = dict.fromkeys("abcde", 0.2)
FAR = {**EVEN, "a": 0.5, "b": 0.05, "c": 0.05}
NEAR = {**EVEN, "a": 0.23, "b": 0.17}


def told(at, classes, requests=None):
    total = sum((classes or {}).values())
    return Counts(at=at, requests=total if requests is None else requests, errors=0, classes=classes)


def drawn(rng, shares, count):
    return rng.choices(list(shares), weights=list(shares.values()), k=count)


def rolled(stable, canary, *, spec=SPEC, looks=400, per_look=(40, 40), seed=0, change=lambda at, counts: counts):
    """Evidence and verdict of a rollout whose arms predict classes by these shares."""
    rng = random.Random(seed)
    counts = [{}, {}]
    for one in drawn(rng, stable, 500):
        counts[0][one] = counts[0].get(one, 0) + 1
    evidence, said = analysis.begin(spec, now=0.0), None
    for at in range(looks):
        counts = change(at, counts)
        evidence = analysis.look(
            evidence, spec, now=at, stable=told(at, dict(counts[0])), canary=told(at, dict(counts[1]))
        )
        said = analysis.verdict(evidence, spec, now=at)
        if said is not None:
            break
        for place, shares in enumerate((stable, canary)):
            for one in drawn(rng, shares, per_look[place]):
                counts[place][one] = counts[place].get(one, 0) + 1
    return evidence, said


def test_a_canary_that_predicts_as_stable_does_is_successful():
    _, said = rolled(EVEN, EVEN)
    assert said.outcome is Outcome.SUCCESSFUL


def test_a_canary_whose_predictions_lie_elsewhere_is_failed_and_the_class_is_named():
    _, said = rolled(EVEN, FAR, per_look=(95, 5))
    assert (said.outcome, said.reason) == (Outcome.FAILED, Reason.PREDICTION_DRIFT)
    assert "most: 'a'" in said.message
    assert "margin 10 points" in said.message


def test_a_canary_that_moved_within_the_margin_is_successful():
    outcomes = [rolled(EVEN, NEAR, seed=seed)[1].outcome for seed in range(5)]
    assert outcomes == [Outcome.SUCCESSFUL] * 5


def test_swapping_the_arms_swaps_nothing():
    """A distance has no sign."""
    assert rolled(FAR, EVEN)[1].outcome is rolled(EVEN, FAR)[1].outcome is Outcome.FAILED


def test_a_class_that_only_the_canary_predicts_is_seen():
    evidence, said = rolled(EVEN, {**EVEN, "a": 0.0, "z": 0.2})
    assert said.outcome is Outcome.FAILED
    assert set(evidence.drift.labels) == {*"abcdez"}


def test_traffic_whose_classes_change_for_both_arms_is_no_drift():
    """Blocks, not totals: the mix of classes and the arms' shares of the traffic change together (Simpson)."""
    rng, counts = random.Random(3), [{}, {}]
    evidence = analysis.begin(SPEC, now=0.0)
    for at in range(300):
        evidence = analysis.look(
            evidence, SPEC, now=at, stable=told(at, dict(counts[0])), canary=told(at, dict(counts[1]))
        )
        said = analysis.verdict(evidence, SPEC, now=at)
        assert said is None or said.outcome is not Outcome.FAILED
        shares = EVEN if at < 150 else FAR
        for place, count in enumerate((95, 5) if at < 150 else (50, 50)):
            for one in drawn(rng, shares, count):
                counts[place][one] = counts[place].get(one, 0) + 1
    assert drift.distance(evidence.drift, evidence.predictions) < 0.05


def test_a_restarted_arm_loses_a_block_and_nothing_else():
    def forget(at, counts):
        return [counts[0], {}] if at == 100 else counts

    evidence, said = rolled(EVEN, EVEN, spec=replace(SPEC, min_requests=9000), looks=150, change=forget)
    assert said is None
    assert evidence.predictions.skipped == 1
    assert evidence.predictions.canary.counted == pytest.approx(40 * 148, abs=120)


@pytest.mark.parametrize(
    ("stable", "canary", "why"),
    [
        (None, None, "no answer named a class"),
        ({"a": 900}, {}, "one arm named no class"),
        ({"a": -3}, {"a": 1}, "no answer named a class"),
    ],
    ids=["nothing told", "nothing of the canary", "senseless"],
)
def test_without_classes_the_verdict_is_inconclusive_and_says_why(stable, canary, why):
    evidence = analysis.begin(SPEC, now=0.0)
    for at in range(3):
        classes = None if stable is None else {label: count * (at + 1) for label, count in stable.items()}
        evidence = analysis.look(evidence, SPEC, now=at, stable=told(at, classes, 900), canary=told(at, canary, 50))
    assert analysis.verdict(evidence, SPEC, now=60.0) is None
    said = analysis.verdict(evidence, SPEC, now=1801.0)
    assert (said.outcome, said.reason) == (Outcome.INCONCLUSIVE, Reason.NO_EVIDENCE)
    assert why in said.message


def test_all_metrics_share_the_risk_of_a_false_alarm():
    both = replace(SPEC, metrics=(DRIFT, Analysis().metrics[0]))
    assert analysis.alarm_threshold(both) == pytest.approx(analysis.alarm_threshold(SPEC) + math.log(2))


def test_drift_alone_does_not_pass_for_the_other_metrics():
    spec = replace(SPEC, metrics=(DRIFT, Analysis().metrics[0]), max_duration=Duration("1000m"), min_requests=10)
    evidence, said = rolled(EVEN, EVEN, spec=spec, looks=60)
    assert said is None or said.outcome is Outcome.SUCCESSFUL
    silent = replace(evidence, attempts=replace(evidence.attempts, canary=Arm()))
    assert analysis.verdict(silent, spec, now=60.0) is None


@pytest.mark.parametrize(
    ("margin", "said"),
    [
        (MetricMargin(type="Relative", value=Percentage("10%")), "Relative"),
        (MetricMargin(type="Absolute", value=Percentage("100%")), "100%"),
        (MetricMargin(type="Absolute", value=Percentage("0%")), "0%"),
    ],
    ids=["relative", "everything", "nothing"],
)
def test_a_margin_that_cannot_act_is_refused(margin, said):
    with pytest.raises(BadInput, match=said):
        analysis.check(replace(SPEC, metrics=(replace(DRIFT, margin=margin),)))


# The two E-variables, by exact enumeration of all small blocks.


def _ways(shares, count):
    """All counts of so many predictions, with their chances."""
    for cut in itertools.combinations_with_replacement(range(len(shares)), count):
        counts = [cut.count(place) for place in range(len(shares))]
        chance = math.factorial(count) * math.prod(
            share**each / math.factorial(each) for share, each in zip(shares, counts, strict=True)
        )
        yield counts, chance


def _row(counts):
    return tuple(itertools.accumulate(counts))


SHARES = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(lambda parts: [one / sum(parts) for one in parts])
PASTS = st.lists(st.integers(0, 40), min_size=3, max_size=3)


@settings(max_examples=25, deadline=None)
@given(shares=SHARES, stable=PASTS, canary=PASTS, sizes=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_an_alarm_s_factor_has_an_expectation_of_at_most_one_where_both_arms_are_alike(shares, stable, canary, sizes):
    stream = Stream(bounds=(0.0, 1.0, 2.0), stable=Arm(past=_row(stable)), canary=Arm(past=_row(canary)))
    means = [0.0] * len(drift.BELIEFS)
    for (here, p), (there, q) in itertools.product(_ways(shares, sizes[0]), _ways(shares, sizes[1])):
        for place, log in enumerate(drift.worths(stream, Closed(_row(here), _row(there)))):
            means[place] += p * q * math.exp(log)
    assert max(means) <= 1 + 1e-9


@settings(max_examples=25, deadline=None)
@given(shares=SHARES, margin=st.sampled_from([0.05, 0.2]), sizes=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_evidence_of_success_has_an_expectation_of_at_most_one_at_the_margin(shares, margin, sizes):
    """The last class gives the margin away to the first: a distance of exactly the margin."""
    moved = [shares[0] + margin, shares[1], shares[2] - margin]
    if moved[2] < 0:
        return
    trial = Trial(metric=drift.NAME, margin=Percentage(f"{margin * 100:g}%"))
    mean = 0.0
    weight = sizes[0] * sizes[1] / sum(sizes)
    for (here, p), (there, q) in itertools.product(_ways(shares, sizes[0]), _ways(moved, sizes[1])):
        apart = [weight * (c / sizes[1] - s / sizes[0]) for s, c in zip(here, there, strict=True)]
        mean += p * q * math.exp(drift.tried(trial, apart, weight, cap=99.0).log_e)
    assert mean <= 1 + 1e-6


@pytest.mark.parametrize("sizes", [(40, 40), (60, 10)], ids=str)
def test_evidence_of_success_stays_fair_for_blocks_of_any_size(sizes):
    """Two classes, 30 points apart, which is the margin: nearly the worst case of Hoeffding's bound."""
    weight, mean = sizes[0] * sizes[1] / sum(sizes), 0.0
    trial = Trial(metric=drift.NAME, margin=Percentage("30%"))
    for here, there in itertools.product(*(range(size + 1) for size in sizes)):
        chance = math.comb(sizes[0], here) * 0.35**here * 0.65 ** (sizes[0] - here)
        chance *= math.comb(sizes[1], there) * 0.65**there * 0.35 ** (sizes[1] - there)
        apart = weight * (there / sizes[1] - here / sizes[0])
        mean += chance * math.exp(drift.tried(trial, [apart, -apart], weight, cap=99.0).log_e)
    assert 0.3 < mean <= 1


def test_evidence_above_its_cap_is_not_carried_on_for_any_set_of_classes():
    trial = Trial(metric=drift.NAME, margin=Percentage("10%"))
    for _ in range(200):
        trial = drift.tried(trial, [0.1, -0.3, 0.2], 20.0, cap=6.0)
    assert trial.log_e == pytest.approx(6.0, abs=0.5)
    bad = drift.tried(trial, [10.0, -10.0, 0.0], 40.0, cap=6.0)
    assert bad.log_e < trial.log_e


def test_the_set_that_is_refuted_last_is_the_one_that_all_sets_are_worth_at_least():
    sums, weight, margin = (3.0, -4.0, 1.5, -0.5), 300.0, 0.1
    of_all = [
        drift.against([sum(chosen)], weight, margin)
        for size in range(5)
        for chosen in itertools.combinations(sums, size)
        if sum(chosen) >= 0
    ]
    assert drift.against(sums, weight, margin) == pytest.approx(min(of_all))


def test_what_chance_alone_shows_is_not_taken_for_a_drift():
    """Twenty classes, alike on both arms: after some hundred requests their shares lie far apart."""
    many = {f"c{place}": 1 / 20 for place in range(20)}
    evidence, _ = rolled(many, many, spec=replace(SPEC, min_requests=9000), looks=22, per_look=(95, 5))
    raw = sum(max(0.0, each) for each in evidence.drift.sums) / evidence.drift.weight
    assert raw > 0.1
    assert drift.distance(evidence.drift, evidence.predictions) < raw / 2
