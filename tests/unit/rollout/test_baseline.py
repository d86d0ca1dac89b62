"""A fresh copy of stable beside the canary: what is compared, where traffic goes, and that it leaves nothing behind."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import settings
from tests.fakes.scenarios import failure, success
from tests.fakes.world import KEY, FakeWorld, digest_of
from tests.unit.rollout import test_crash_points as crashes
from tests.unit.rollout import test_state_machine as machine

from modelyard.rollout.observation import Arm, Counts
from modelyard.rollout.simulate import Truth, simulate
from modelyard.spec.deployment import Analysis, DeploymentSpec, ModelRef
from modelyard.spec.rollout import Phase
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason

BESIDE = Analysis(baseline=True)


@pytest.fixture
def it() -> FakeWorld:
    """Version 1 is stable with 4 replicas, version 2 is in mid-canary, beside a baseline."""
    world = FakeWorld.with_stable(replicas=4, analysis=BESIDE)
    world.version("3")
    world.begin("2", until=lambda: world.weight_of("2") == 5)
    return world


def copies(it: FakeWorld) -> list[str]:
    """The baselines that are there."""
    return sorted(name for name in it.arms.there[KEY] if name.startswith("b"))


def shares(it: FakeWorld) -> Mapping[str, int]:
    return it.router.confirmed[KEY]


def test_it_gets_as_much_traffic_as_the_canary_and_stable_the_rest(it: FakeWorld) -> None:
    (copy,) = copies(it)
    assert shares(it) == {it.arm_of("1"): 90, it.arm_of("2"): 5, copy: 5}
    arms = it.arms.there[KEY]
    assert (arms[copy].version, arms[copy].digest) == ("1", digest_of("1"))
    assert arms[copy].replicas == arms[it.arm_of("2")].replicas == 1
    assert arms[it.arm_of("1")].replicas == 4
    it.run(until=lambda: it.weight_of("2") == 50)
    assert {arm: share for arm, share in shares(it).items() if share} == {it.arm_of("2"): 50, copy: 50}
    assert arms[copy].replicas == arms[it.arm_of("2")].replicas == 2
    assert arms[it.arm_of("1")].ready == 4


@pytest.mark.parametrize("errors", [0.0, 0.5], ids=["promoted", "rolled back"])
def test_at_the_end_nothing_is_left_of_it(errors: float) -> None:
    it = FakeWorld.with_stable(replicas=4, analysis=BESIDE)
    it.bring("2", errors=errors)
    winner = "1" if errors else "2"
    assert it.stable == winner
    assert set(it.arms.there[KEY]) == set(shares(it)) == {it.arm_of(winner)}
    assert not it.unanswered


def test_the_canary_is_compared_with_the_copy_not_with_stable(it: FakeWorld) -> None:
    """Stable fails for its age or its load alone: beside it a bad canary would look as good."""
    it.errors[digest_of("2")] = 0.3
    real, old = it.counters.counts, it.arm_of("1")

    def counts(key: str) -> Mapping[str, Counts]:
        return {name: replace(one, errors=one.requests // 3) if name == old else one for name, one in real(key).items()}

    it.counters.counts = counts  # type: ignore[method-assign]
    it.run()
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, Reason.ERROR_RATE)


def test_without_traffic_of_the_copy_nothing_is_promoted() -> None:
    it = FakeWorld.with_stable(analysis=replace(BESIDE, max_duration=Duration("20s")))
    real = it.counters.counts
    it.counters.counts = lambda key: {  # type: ignore[method-assign]
        name: one for name, one in real(key).items() if not name.startswith("b")
    }
    it.bring("2")
    assert it.stable == "1"
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.reason is Reason.NO_EVIDENCE


def broken(it: FakeWorld) -> None:
    """From now on no baseline has a ready replica."""
    real = it.arms.arms

    def arms(key: str) -> Mapping[str, Arm]:
        return {name: replace(arm, ready=0) if name.startswith("b") else arm for name, arm in real(key).items()}

    it.arms.arms = arms  # type: ignore[method-assign]


def test_a_copy_that_never_becomes_ready_is_waited_for_until_the_deadline_and_marks_nothing() -> None:
    it = FakeWorld.with_stable(analysis=BESIDE)
    broken(it)
    it.version("2")
    it.alias("2")
    it.run(seconds=10.0)
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.PROGRESS_DEADLINE)
    assert "the fresh copy of stable" in verdict.message
    assert (it.stable, it.tags["2"]) == ("1", "")
    assert "2" not in it.served


def test_the_traffic_of_a_copy_that_died_goes_to_stable(it: FakeWorld) -> None:
    (copy,) = copies(it)
    broken(it)
    it.run(until=lambda: shares(it).get(copy) == 0)
    assert shares(it) == {it.arm_of("1"): 95, it.arm_of("2"): 5, copy: 0}


def test_a_new_version_in_mid_canary_gets_a_copy_of_its_own(it: FakeWorld) -> None:
    before = copies(it)
    it.alias("3")
    it.run(until=lambda: it.weight_of("3") == 5)
    assert copies(it)
    assert not set(before) & set(copies(it))
    it.run()
    assert (it.stable, copies(it)) == ("3", [])


def test_a_rollback_is_over_only_when_the_copy_is_gone_too(it: FakeWorld) -> None:
    real, slow = it.arms.settle, set(copies(it))

    def settle() -> None:
        """The copy takes long to go."""
        kept = {name: arm for name, arm in it.arms.there[KEY].items() if name in slow and not arm.replicas}
        real()
        it.arms.there[KEY] |= kept

    it.arms.settle = settle  # type: ignore[method-assign]
    it.errors[digest_of("2")] = 0.5
    it.run(until=lambda: set(it.arms.there[KEY]) == {it.arm_of("1"), *slow})
    for _ in range(20):
        it.pass_time()
        it.look()
    assert it.attempt.status.phase is Phase.ROLLING_BACK
    slow.clear()
    it.run()
    assert (it.attempt.status.phase, copies(it)) == (Phase.FAILED, [])


def test_the_simulation_starts_one_too() -> None:
    went = simulate(DeploymentSpec(model=ModelRef(name="digits", alias="champion"), analysis=BESIDE), Truth(rps=500))
    assert went.promoted
    assert [share for _, share in went.weights] == [0, 5, 50, 100]


class Beside(machine.Rollouts):
    """Whatever people and faults do, beside a baseline."""

    def __init__(self) -> None:
        super().__init__()
        self.it.wish(analysis=Analysis(max_duration=Duration("60s"), baseline=True))


TestBeside = Beside.TestCase
TestBeside.settings = settings(machine.TestRollouts.settings, max_examples=10_000 if machine.NIGHTLY else 12)


def beside(it: FakeWorld) -> None:
    it.wish(analysis=BESIDE)
    success(it)


def failure_beside(it: FakeWorld) -> None:
    it.wish(analysis=BESIDE)
    failure(it)


@pytest.mark.parametrize("second", [False, True], ids=["alone", "beside a second loop"])
@pytest.mark.parametrize("scenario", [beside, failure_beside], ids=["success", "failure"])
def test_killed_it_ends_where_the_unbroken_run_ends(scenario: object, second: bool) -> None:
    """Every fifth crash point; all of them with the nightly profile."""
    unbroken, calls = crashes.run(scenario, second=second)  # type: ignore[arg-type]
    expected = crashes.ending(unbroken)
    for point in range(1, calls + 1, 1 if machine.NIGHTLY else 5):
        it, _ = crashes.run(scenario, kill_after=point, second=second)  # type: ignore[arg-type]
        assert crashes.ending(it) == expected, f"killed after call {point} of {calls}"
