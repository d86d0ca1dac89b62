"""Who was champion when is written down once for each change."""

from tests.fakes.world import KEY, FakeWorld

from modelyard.registry.history import History
from modelyard.rollout.laptop.chronicle import Chronicle


def test_each_version_that_the_alias_named_is_noted_once_and_in_order(tmp_path):
    world, history = FakeWorld(), History(tmp_path)
    chronicle = Chronicle(history)
    world.wish()
    for version in ("1", "2"):
        world.version(version)
        world.alias(version)
        for _ in range(20):
            world.pass_time()
            chronicle.look(world.world, KEY, now=world.now)
    assert [reign.version for reign in history.all("digits")] == ["1", "2"]
