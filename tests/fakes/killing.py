"""A world whose loop is killed after so many calls of its ports."""

from collections.abc import Callable
from typing import Any

from modelyard.rollout.ports import World


class Killed(BaseException):
    """The process is gone: nothing catches this."""


class _Clock:
    def __init__(self, after: int) -> None:
        self.left = after
        self.calls = 0


class _Port:
    """A port that does what it is asked, and then counts."""

    def __init__(self, port: object, clock: _Clock) -> None:
        self._port, self._clock = port, clock

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        real = getattr(self._port, verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._clock.left <= self._clock.calls:
                raise Killed
            answer = real(*args, **kwargs)
            self._clock.calls += 1
            if self._clock.left <= self._clock.calls:
                raise Killed
            return answer

        return call


def killing(world: World, *, after: int) -> World:
    """The same world; the loop is killed right after its call number `after` (0: before the first)."""
    clock = _Clock(after)
    ports: dict[str, Any] = {
        name: _Port(getattr(world, name), clock) for name in ("records", "registry", "arms", "router", "counters")
    }
    return World(**ports, memory=world.memory)
