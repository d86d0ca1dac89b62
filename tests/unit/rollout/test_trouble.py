"""What keeps the loop from doing what it decided is told where people look, not only in a log."""

import pytest
from tests.fakes.world import KEY, FakeWorld

from modelyard.errors import BadInput, ModelyardError, Unavailable
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.loop import look
from modelyard.rollout.observation import trouble_of
from modelyard.spec.deployment import DeploymentSpec


@pytest.fixture
def it() -> FakeWorld:
    world = FakeWorld()
    world.wish()
    world.version("1")
    world.alias("1")
    return world


def refuse(it: FakeWorld, monkeypatch: pytest.MonkeyPatch, error: ModelyardError) -> None:
    def ensure(key: str, arm: EnsureArm) -> None:
        raise error

    monkeypatch.setattr(it.arms, "ensure", ensure)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BadInput("traffic.port 8080 is taken", do="free it"), "Refused"),
        (Unavailable("the router cannot be read", do="wait"), "Trouble"),
    ],
)
def test_why_a_look_cannot_do_what_it_decided_stands_in_the_status_and_goes_with_it(
    it: FakeWorld, monkeypatch: pytest.MonkeyPatch, error: ModelyardError, reason: str
) -> None:
    with monkeypatch.context() as patched:
        refuse(it, patched, error)
        for _ in range(3):
            it.look()
            it.pass_time()
        said = trouble_of(it.deployment)
        assert said is not None
        assert (said.status, said.reason, said.message) == ("True", reason, str(error))
        before = it.records.writes
        for _ in range(3):
            it.look()
            it.pass_time()
        assert it.records.writes == before, "what was said once is not written again"
    it.run()
    assert trouble_of(it.deployment) is None
    assert it.condition("Degraded") == ("False", "AsWished")
    assert it.stable == "1"


def test_what_fails_at_the_end_of_a_look_holds_up_no_rollout_and_is_told(it: FakeWorld) -> None:
    def then(key: str, wish: DeploymentSpec) -> None:
        raise BadInput(f"{key}: traffic.port is taken", do="free it")

    for _ in range(60):
        look(it.world, KEY, now=it.now, then=then)
        it.pass_time()
    assert it.stable == "1"
    said = trouble_of(it.deployment)
    assert said is not None
    assert "default/digits: traffic.port is taken" in said.message


def test_trouble_is_logged_once_and_not_at_each_look(
    it: FakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a namespace was deleted, "there is no ModelRegistry" filled the log several times a second."""
    with monkeypatch.context() as patched:
        refuse(it, patched, BadInput("there is no ModelRegistry main", do="apply one"))
        for _ in range(5):
            it.look()
        assert [each.getMessage().count("no ModelRegistry") for each in caplog.records] == [1]
    it.run()
    with monkeypatch.context() as patched:
        refuse(it, patched, BadInput("there is no ModelRegistry main", do="apply one"))
        it.wish(replicas=2)
        it.look()
    assert sum("no ModelRegistry" in each.getMessage() for each in caplog.records) == 2, "it came back: that is news"
