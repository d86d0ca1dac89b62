"""A registry that its yard starts again is asked again; one that nobody starts is not."""

import pytest
from tests.fakes.registry import FakeRegistry

from modelyard.errors import BadInput, Unavailable
from modelyard.runs import services
from modelyard.runs.services import _Patient


class Away(FakeRegistry):
    """Away for the first few times that it is asked."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def versions(self, model: str) -> tuple[()]:
        self.times -= 1
        if self.times >= 0:
            raise Unavailable("MLflow is away", do="wait")
        return ()


def test_it_is_asked_again_while_the_yard_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.time, "sleep", lambda _: None)
    assert _Patient(Away(3), lambda: True).versions("m") == ()


def test_without_a_yard_it_is_away_at_once() -> None:
    with pytest.raises(Unavailable, match="MLflow is away"):
        _Patient(Away(3), lambda: False).versions("m")


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_PATIENCE_S", -1.0)
    with pytest.raises(Unavailable):
        _Patient(Away(3), lambda: True).versions("m")


def test_other_errors_are_not_waited_for() -> None:
    with pytest.raises(BadInput):
        _Patient(FakeRegistry(), lambda: True).move_alias("m", "a", "7", expected=None)
