"""A world in mid-canary, which most tests begin with."""

import pytest
from tests.fakes.world import FakeWorld


@pytest.fixture
def it() -> FakeWorld:
    """Version 1 is stable with 4 replicas, version 2 is in mid-canary."""
    world = FakeWorld()
    world.wish(replicas=4)
    world.bring("1")
    world.version("3")
    world.version("2")
    world.alias("2")
    world.run(until=lambda: world.weight_of("2") == 5)
    return world
