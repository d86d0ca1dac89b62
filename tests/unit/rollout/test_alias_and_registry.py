"""The alias is the wish: followed when it moves, calmed when it flaps, and harmless when it cannot be read."""

import pytest
from tests.fakes.world import KEY, FakeWorld, digest_of

from modelyard.errors import Conflict
from modelyard.rollout.decide import decide
from modelyard.rollout.intents import Record
from modelyard.rollout.loop import apply, observe
from modelyard.spec.deployment import Rollback
from modelyard.spec.rollout import Phase


@pytest.fixture
def it() -> FakeWorld:
    """Version 1 is stable, version 2 in mid-canary, 3 is registered."""
    world = FakeWorld.with_stable()
    world.version("3")
    world.begin("2", until=lambda: world.weight_of("2") == 5)
    world.pass_time(10.0)
    return world


def versions(it: FakeWorld) -> list[tuple[str, str | None]]:
    reasons = [each.status.verdict.reason.value if each.status.verdict else None for each in it.rollouts]
    return list(zip([each.spec.version for each in it.rollouts], reasons, strict=True))


def test_a_new_version_in_mid_canary_replaces_the_canary_and_never_stable(it: FakeWorld) -> None:
    it.alias("3")
    arms: list[set[str]] = []

    def watch() -> bool:
        arms.append(set(it.arms.there[KEY]))
        return it.at_rest and len(it.rollouts) == 3

    it.run(until=watch)
    assert versions(it) == [("1", "FirstVersion"), ("2", "Superseded"), ("3", "AnalysisSuccessful")]
    assert all(it.arm_of("1") in each for each in arms[:-1])
    assert all(len(each) <= 2 for each in arms)
    assert it.tags["2"] == ""
    assert it.unanswered == {}


def test_a_superseded_version_may_come_again(it: FakeWorld) -> None:
    it.alias("3")
    it.run()
    it.alias("2")
    it.run()
    assert it.stable == "2"


def test_the_alias_on_stable_again_rolls_back_quietly(it: FakeWorld) -> None:
    it.alias("1")
    it.run()
    assert versions(it)[-1] == ("2", "Superseded")
    assert it.tags["2"] == ""
    assert it.condition("Degraded") == ("False", "AsWished")
    assert it.stable == "1"


def test_a_new_version_while_the_last_one_is_promoted_starts_from_the_new_stable(it: FakeWorld) -> None:
    it.run(until=it.phase(Phase.PROMOTING))
    it.alias("3")
    it.run()
    assert versions(it) == [("1", "FirstVersion"), ("2", "AnalysisSuccessful"), ("3", "AnalysisSuccessful")]
    assert it.rollouts[-1].spec.previous["version"] == "2"


def test_a_flapping_alias_does_not_start_an_arm_each_time(it: FakeWorld) -> None:
    for turn in range(60):
        it.alias("3" if turn % 2 else "2")
        it.pass_time(0.5)
        it.look()
    assert len(it.rollouts) == 2
    it.run()
    assert it.stable == "3"


def test_an_alias_that_never_stops_flapping_is_followed_now_and_then(it: FakeWorld) -> None:
    for turn in range(600):
        it.alias("3" if turn % 3 else "1")
        it.pass_time(0.5)
        it.look()
    assert 2 < len(it.rollouts) < 12


def test_moves_after_a_rollout_has_ended_are_followed_at_once() -> None:
    it = FakeWorld.with_stable()
    it.version("2")
    it.alias("2")
    it.look()
    assert it.attempt.spec.version == "2"


def test_the_registry_away_for_an_hour_changes_nothing_but_a_condition(it: FakeWorld) -> None:
    it.run()
    it.registry.away = True
    it.look()
    writes = it.acts
    for _ in range(360):
        it.pass_time(10.0)
        it.look()
    assert it.condition("Degraded") == ("True", "RegistryUnavailable")
    assert it.acts == writes
    assert it.stable == "2"
    it.registry.away = False
    it.run()
    assert it.condition("Degraded") == ("False", "AsWished")


def test_a_canary_goes_on_while_the_registry_is_away_and_settles_when_it_is_back(it: FakeWorld) -> None:
    it.registry.away = True
    it.run(until=it.phase(Phase.PROMOTING))
    it.run(until=lambda: it.weight_of("2") == 100)
    for _ in range(400):
        it.pass_time(10.0)
        it.look()
    assert it.attempt.status.phase is Phase.PROMOTING
    it.registry.away = False
    it.run()
    assert it.tags["2"] == "stable"


def test_a_bad_canary_is_off_the_air_at_once_also_while_the_registry_is_away(it: FakeWorld) -> None:
    it.wish(rollback=Rollback(alias="Restore"))
    it.registry.away = True
    it.errors[digest_of("2")] = 0.9
    it.run(until=lambda: it.attempt.status.phase is Phase.ROLLING_BACK and it.weight_of("2") == 0)
    it.registry.away = False
    it.run()
    assert it.registry.aliases["digits", "champion"] == "1"
    assert it.tags["2"] == "failed"


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda it: it.alias(None), "AliasMissing"),
        (lambda it: it.alias("99"), "VersionMissing"),
        (lambda it: it.registry.add("digits", "2", ""), "ArtifactMissing"),
    ],
    ids=["the alias vanished", "the version was deleted", "the version has no artifact"],
)
def test_a_target_that_is_lost_leaves_stable_and_says_why(it: FakeWorld, break_it, reason: str) -> None:  # type: ignore[no-untyped-def]
    it.run()
    it.bring("4")
    it.alias("2")
    break_it(it)
    it.look()
    writes = it.acts
    for _ in range(50):
        it.pass_time()
        it.look()
    assert it.acts == writes
    assert it.stable == "4"
    assert it.condition("Degraded") == ("True", reason)
    assert it.condition("Ready")[0] == "True"
    assert it.router.confirmed[KEY] == {it.arm_of("4"): 100}


def test_a_canary_whose_alias_vanished_goes_no_step_further_until_it_is_back(it: FakeWorld) -> None:
    it.alias(None)
    it.run(until=lambda: it.now > 1_000_300.0)
    assert it.weight_of("2") == 5
    assert it.stable == "1"
    it.alias("2")
    it.run()
    assert it.stable == "2"


def test_a_version_deleted_in_mid_rollout_cannot_hold_up_the_end(it: FakeWorld) -> None:
    it.errors[digest_of("2")] = 0.9
    del it.registry.known["digits", "2"]
    it.run()
    assert it.attempt.status.phase is Phase.FAILED
    assert it.stable == "1"


def test_a_stable_version_deleted_from_the_registry_serves_on_and_its_alias_is_not_restored_to_nothing(
    it: FakeWorld,
) -> None:
    it.wish(rollback=Rollback(alias="Restore"))
    it.errors[digest_of("2")] = 0.9
    del it.registry.known["digits", "1"]
    it.run()
    assert it.attempt.status.phase is Phase.FAILED
    assert it.stable == "1"
    assert it.attempt.status.alias["after"] == "2"


def test_the_alias_is_not_restored_after_a_superseded_canary(it: FakeWorld) -> None:
    it.wish(rollback=Rollback(alias="Restore"))
    it.alias("3")
    it.run()
    assert it.registry.aliases["digits", "champion"] == "3"


def test_the_same_bytes_under_another_number_are_the_same_arm(it: FakeWorld) -> None:
    it.run()
    it.registry.add("digits", "5", digest_of("2"))
    it.alias("5")
    it.run()
    assert len(it.rollouts) == 2
    assert it.deployment.status.alias["version"] == "5"


def test_what_was_observed_of_the_alias_stands_in_status(it: FakeWorld) -> None:
    alias = it.deployment.status.alias
    assert {**alias, "observedAt": 0, "since": 0} == {
        "name": "champion",
        "version": "2",
        "digest": digest_of("2"),
        "arm": it.arm_of("2"),
        "observedAt": 0,
        "since": 0,
    }
    assert it.attempt.status.timeline[0]["at"] == alias["observedAt"]


def test_two_loops_that_see_the_alias_move_make_one_attempt() -> None:
    it = FakeWorld.with_stable()
    it.version("2")
    it.alias("2")
    seen = observe(it.world, KEY, it.now)
    assert seen is not None
    late = decide(seen).intents[0]
    assert isinstance(late, Record)
    it.look()
    with pytest.raises(Conflict):
        apply(it.world, KEY, late)
    assert [each.spec.version for each in it.rollouts] == ["1", "2"]


def test_an_alias_that_vanished_before_the_canary_was_ready_holds_it_at_weight_zero() -> None:
    it = FakeWorld.with_stable()
    it.begin("2", until=it.phase(Phase.STARTING))
    it.alias(None)
    for _ in range(20):
        it.pass_time()
        it.look()
    assert it.attempt.status.phase is Phase.STARTING
    assert it.weight_of("2") == 0
    it.alias("2")
    it.run()
    assert it.stable == "2"
