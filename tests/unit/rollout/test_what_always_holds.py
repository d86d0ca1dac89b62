"""What always holds (`docs/rollout.md`), and faults of neighbouring systems that break it elsewhere."""

from dataclasses import replace

from tests.fakes.world import KEY, FakeWorld, digest_of

from modelyard.rollout import commands
from modelyard.spec.deployment import Canary, Strategy
from modelyard.spec.rollout import Phase
from modelyard.units import Duration


def stable_arm(it: FakeWorld, number: str = "1") -> int:
    arm = it.arms.there[KEY].get(it.arm_of(number))
    return 0 if arm is None else arm.replicas


# capacity


def test_stable_keeps_its_replicas_until_the_new_arm_has_everything(it: FakeWorld) -> None:
    """Regressions 7, 15, 19: stable 110 → 0 before the canary is ready (Argo #2050, #1415); a primary made small is
    overloaded by promotion or rollback (Flagger #1600, #869)."""
    seen: list[tuple[int, int]] = []

    def watch() -> bool:
        seen.append((it.weight_of("2"), stable_arm(it)))
        return it.stable == "2" and it.at_rest

    it.run(until=watch)
    assert all(replicas == 4 for weight, replicas in seen if weight < 100)


def test_a_wish_for_fewer_replicas_in_mid_canary_does_not_shrink_stable(it: FakeWorld) -> None:
    """Regression 7: an autoscaler event scales the stable side down in mid-canary (Argo #1415)."""
    it.wish(replicas=1)
    it.run(until=lambda: it.weight_of("2") == 50)
    assert stable_arm(it) == 4
    it.run()
    assert stable_arm(it, "2") == 1


def test_the_canary_is_grown_before_its_weight_rises(it: FakeWorld) -> None:
    """Regression 9: a canary moves all traffic before it has scaled (Argo #3372)."""
    shares: dict[int, int] = {}

    def watch() -> bool:
        for share in (it.router.asked[KEY].get(it.arm_of("2"), 0),):
            arm = it.arms.there[KEY].get(it.arm_of("2"))
            shares.setdefault(share, 0 if arm is None else arm.ready)
        return it.stable == "2" and it.at_rest

    it.run(until=watch)
    assert {share: ready for share, ready in shares.items() if share} == {5: 1, 50: 2, 100: 4}


def test_replicas_of_nothing_never_reach_an_arm(it: FakeWorld) -> None:
    """Regression 22: `paused-replicas: 0` is copied to the primary, and the status says Succeeded (Flagger #1934)."""
    it.wish(replicas=0)
    it.run()
    assert stable_arm(it, "2") == 1


def test_scaling_after_an_abort_does_not_revive_the_canary(it: FakeWorld) -> None:
    """Regressions 10, 15: abort scales stable to 0 (Argo #1292); scaling up revives an aborted canary (#4973)."""
    it.patch(commands.abort(it.attempt))
    it.run()
    assert stable_arm(it) == 4
    it.wish(replicas=7)
    it.run()
    assert {name: arm.replicas for name, arm in it.arms.there[KEY].items()} == {it.arm_of("1"): 7}
    assert len(it.rollouts) == 2


def test_replicas_that_somebody_else_changed_are_set_right(it: FakeWorld) -> None:
    """Regression 12: a missed event leaves a stale replica count for good (Argo #3316)."""
    it.run()
    arm = it.arms.there[KEY][it.arm_of("2")]
    it.arms.there[KEY][arm.name] = replace(arm, replicas=2, ready=2, resource_version="by hand")
    it.run()
    assert stable_arm(it, "2") == 4


# traffic


def test_weights_are_believed_when_the_router_confirms_them_not_before() -> None:
    """Regression 16: a weight is taken as applied without reading it back (Argo #701)."""
    it = FakeWorld.with_stable(strategy=Strategy(canary=Canary(progress_deadline=Duration("10m"))))
    it.begin("2", until=lambda: it.router.asked[KEY].get(it.arm_of("2")) == 5)
    for _ in range(50):
        it.now += 0.5
        it.look()
    assert it.attempt.status.step == 0
    it.router.settle()
    it.look()
    assert it.attempt.status.step == 1


def test_a_router_that_cannot_be_read_confirms_nothing(it: FakeWorld) -> None:
    it.router.readable = False
    it.errors[digest_of("2")] = 0.9
    it.run(until=it.phase(Phase.ROLLING_BACK))
    for _ in range(100):
        it.pass_time()
        it.look()
    assert it.attempt.status.phase is Phase.ROLLING_BACK
    assert it.arm_of("2") in it.arms.there[KEY]
    it.router.readable = True
    it.run()
    assert it.attempt.status.phase is Phase.FAILED


def test_an_unready_canary_gets_no_traffic_and_stable_does_not_shrink(it: FakeWorld) -> None:
    """Regressions 20, 30: unready canaries get traffic and stable shrinks early (kserve #5983, Flagger #1202)."""
    it.arms.broken[digest_of("3")] = None
    it.alias("3")
    it.run(until=lambda: it.attempt.spec.version == "3" and it.now > it.attempt.status.started_at + 60 > 60)
    assert it.router.confirmed[KEY] == {it.arm_of("1"): 100, it.arm_of("3"): 0}
    assert stable_arm(it) == 4


def test_a_canary_that_lost_all_its_replicas_gets_no_traffic_until_it_is_back(it: FakeWorld) -> None:
    it.counters.missing = True
    it.arms.broken[digest_of("2")] = None
    it.pass_time()
    it.look()
    it.pass_time()
    assert it.weight_of("2") == 0
    it.arms.broken.clear()
    it.counters.missing = False
    it.run()
    assert it.stable == "2"


def test_an_old_arm_is_removed_after_traffic_has_left_it_and_its_counters_stand_still(it: FakeWorld) -> None:
    """Regression 8: traffic is switched after the old pods are gone (Argo #2235, #4390)."""
    it.run(until=lambda: it.stable == "2")
    moving = it.arm_of("1")
    for _ in range(20):
        it.counters.serve(KEY, moving, at=it.now, requests=1)
        it.pass_time()
        it.look()
    assert moving in it.arms.there[KEY]
    assert it.router.asked[KEY][moving] == 0
    arm = it.arms.there[KEY][moving]
    it.arms.there[KEY][moving] = replace(arm, in_flight=1)
    for _ in range(20):
        it.pass_time()
        it.look()
    assert moving in it.arms.there[KEY]
    it.arms.there[KEY][moving] = replace(it.arms.there[KEY][moving], in_flight=0)
    it.run()
    assert moving not in it.arms.there[KEY]


def test_a_request_that_hangs_for_ever_does_not_keep_an_old_arm_for_ever(it: FakeWorld) -> None:
    it.run(until=lambda: it.stable == "2")
    arm = it.arms.there[KEY][it.arm_of("1")]
    it.arms.there[KEY][arm.name] = replace(arm, in_flight=1)
    it.run()
    assert set(it.arms.there[KEY]) == {it.arm_of("2")}


def test_a_rollback_does_not_send_everything_to_a_broken_stable(it: FakeWorld) -> None:
    """Regression 18: rollback sends all traffic to a broken primary (Flagger #1898)."""
    it.arms.broken[digest_of("1")] = None
    it.arms.settle()
    it.patch(commands.abort(it.attempt))
    for _ in range(20):
        it.look()
        it.pass_time()
    assert it.weight_of("2") == 5
    assert it.condition("Ready") == ("False", "StableNotReady")
    it.arms.broken.clear()
    it.run()
    assert it.router.confirmed[KEY] == {it.arm_of("1"): 100}


def test_a_stable_arm_that_vanished_comes_back_and_its_traffic_with_it(it: FakeWorld) -> None:
    it.run()
    it.arms.there[KEY].clear()
    it.router.asked.clear()
    it.router.confirmed.clear()
    it.router.versions.clear()
    it.run()
    assert it.router.confirmed[KEY] == {it.arm_of("2"): 100}
    assert len(it.rollouts) == 2


def test_weights_that_somebody_changed_by_hand_are_set_right(it: FakeWorld) -> None:
    it.router.set_weights(
        KEY, {it.arm_of("1"): 40, it.arm_of("2"): 60}, expected=it.router.weights(KEY).resource_version
    )
    it.router.settle()
    it.look()
    assert it.router.asked[KEY] == {it.arm_of("1"): 95, it.arm_of("2"): 5}


# status


def test_when_nothing_changes_nothing_is_written(it: FakeWorld) -> None:
    it.run()
    before = it.acts
    for _ in range(100):
        it.pass_time(3.0)
        assert it.look() is None
    assert it.acts == before


def test_a_condition_s_time_moves_only_when_its_status_flips(it: FakeWorld) -> None:
    def when(name: str) -> float:
        return next(each.last_transition_time for each in it.deployment.status.conditions if each.type == name)

    it.look()
    started = when("Progressing")
    it.run(until=it.phase(Phase.PROMOTING))
    assert when("Progressing") == started
    it.run()
    assert when("Progressing") > started


def test_status_says_which_generation_it_speaks_of(it: FakeWorld) -> None:
    it.wish(replicas=5)
    it.look()
    assert it.deployment.metadata.generation == 2
    assert it.deployment.status.observed_generation == 2
    assert {each.observed_generation for each in it.deployment.status.conditions} == {2}


def test_status_of_the_weights_is_what_was_observed(it: FakeWorld) -> None:
    it.look()
    assert it.attempt.status.weights.confirmed == {it.arm_of("1"): 95, it.arm_of("2"): 5}


def test_the_timeline_is_bounded(it: FakeWorld) -> None:
    it.run()
    assert len(it.attempt.status.timeline) < 40


def test_a_deployment_that_was_deleted_is_left_alone(it: FakeWorld) -> None:
    it.records.delete(it.deployment)
    assert it.look() is None
    assert KEY not in it.memory
