"""A world in mid-canary, which most tests begin with."""

import pytest
from tests.fakes.world import FakeWorld


@pytest.fixture
def it() -> FakeWorld:
    """Version 1 is stable with 4 replicas, version 2 is in mid-canary."""
    world = FakeWorld.with_stable(replicas=4)
    world.version("3")
    world.begin("2", until=lambda: world.weight_of("2") == 5)
    return world
