"""Arms under an autoscaler: what is asked is a floor, and stable keeps what it was given while a canary is there."""

from dataclasses import replace

import pytest
from tests.fakes.world import KEY, FakeWorld

from modelyard.spec.deployment import Autoscaling
from modelyard.spec.rollout import Phase


def scale(world: FakeWorld, version: str, count: int) -> None:
    """What an autoscaler does to an arm."""
    mine = world.arms.there[KEY]
    arm = world.arm_of(version)
    mine[arm] = replace(mine[arm], scaled=count, ready=count)


@pytest.fixture
def world() -> FakeWorld:
    world = FakeWorld()
    world.version("1")
    world.alias("1")
    world.wish(autoscaling=Autoscaling(min_replicas=2, max_replicas=10))
    world.run()
    scale(world, "1", 7)
    return world


def floor(world: FakeWorld, version: str) -> int:
    return world.arms.there[KEY][world.arm_of(version)].replicas


def test_at_rest_the_floor_is_the_wish_s(world: FakeWorld) -> None:
    world.look()
    assert floor(world, "1") == 2


def test_during_a_canary_stable_cannot_shrink_below_what_it_had(world: FakeWorld) -> None:
    """The autoscaler shrank the primary, and promotion or rollback overloaded it (Flagger #1600, #869)."""
    world.version("2")
    world.alias("2")
    world.run(until=lambda: world.rollouts[-1].spec.version == "2" and world.weight_of("2") == 50)
    assert floor(world, "1") == 7
    assert floor(world, "2") >= 4  # half of seven


def test_a_new_version_takes_everything_with_as_many_replicas_and_then_the_floor_falls(world: FakeWorld) -> None:
    world.version("2")
    world.alias("2")
    world.run(until=lambda: world.attempt.spec.version == "2" and world.attempt.status.phase is Phase.PROMOTING)
    world.run(until=lambda: world.router.asked[KEY].get(world.arm_of("2")) == 100)
    assert floor(world, "2") == 7
    world.run()
    assert floor(world, "2") == 2


def test_what_stable_is_given_during_a_canary_becomes_its_floor_and_no_more(world: FakeWorld) -> None:
    """The autoscaler drove stable to its maximum during a canary (Argo Rollouts #2857, #3849)."""
    world.version("2")
    world.alias("2")
    world.run(until=lambda: world.rollouts[-1].spec.version == "2" and world.weight_of("2") == 5)
    scale(world, "1", 8)
    for _ in range(5):
        world.pass_time()
        world.look()
        scale(world, "1", 8)
    assert floor(world, "1") == 8
