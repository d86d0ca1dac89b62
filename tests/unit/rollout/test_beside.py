"""What a world does beside its ports at the end of a look: its trouble is told, and holds up no rollout."""

import pytest
from tests.fakes.world import KEY, FakeWorld

from modelyard.errors import Conflict, NotInstalled
from modelyard.rollout.loop import look
from modelyard.spec.deployment import DeploymentSpec
from modelyard.spec.rollout import Phase

MISSING = NotInstalled("the cluster has no ScaledObject", do="install KEDA")


def then(_key: str, _spec: DeploymentSpec) -> None:
    raise MISSING


def degraded(world: FakeWorld) -> tuple[str, str]:
    return next((each.status, each.message) for each in world.deployment.status.conditions if each.type == "Degraded")


@pytest.fixture
def world() -> FakeWorld:
    world = FakeWorld()
    world.version("1")
    world.alias("1")
    world.wish()
    return world


def test_a_kind_that_is_missing_is_told_and_the_rollout_goes_on(world: FakeWorld) -> None:
    shared = world.world
    for _ in range(60):
        again = look(shared, KEY, now=world.now, then=then)
        world.pass_time()
        if world.attempt.status.phase is Phase.SUCCESSFUL and again is None:
            break
    assert world.attempt.status.phase is Phase.SUCCESSFUL
    assert degraded(world) == ("True", str(MISSING))
    acts = world.acts
    assert look(shared, KEY, now=world.now, then=then) is None
    assert world.acts == acts
    look(shared, KEY, now=world.now, then=lambda _key, _spec: None)
    look(shared, KEY, now=world.now, then=lambda _key, _spec: None)
    assert degraded(world)[0] == "False"


def test_a_change_in_between_is_looked_at_soon(world: FakeWorld) -> None:
    def changed(_key: str, _spec: DeploymentSpec) -> None:
        raise Conflict("changed", do="look again")

    again = look(world.world, KEY, now=world.now, then=changed)
    assert again is not None
    assert world.now < again <= world.now + 0.1
