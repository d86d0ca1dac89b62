"""When the yard looks at which deployment. Virtual looks, real threads."""

import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard.errors import Conflict, Unavailable
from modelyard.processes import wait_until
from modelyard.rollout.laptop.home import Home
from modelyard.rollout.laptop.looking import Loop


class Looks:
    """Records looks; answers what it was told by key."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answers: dict[str, object] = {}

    def __call__(self, _world: object, key: str, *, now: float) -> float | None:
        self.seen.append(key)
        answer = self.answers.get(key)
        if callable(answer):
            answer = answer(now)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def count(self, key: str) -> int:
        return self.seen.count(key)


def made(keys: list[str], looks: Looks, **settings: float) -> Loop:
    world = SimpleNamespace(records=SimpleNamespace(keys=lambda: tuple(keys)))
    return Loop(world, look=looks, **settings)


@pytest.fixture
def looks() -> Looks:
    return Looks()


def idle(loop: Loop) -> None:
    wait_until(lambda: all(f.done() for f in loop._running.values()), deadline_s=5, what="the looks")


def test_each_deployment_is_looked_at_once_a_poll(looks):
    loop = made(["default/a", "default/b"], looks)
    for now in (100.0, 100.2, 100.4, 100.6):
        loop.turn(now)
        idle(loop)
    assert sorted(looks.seen) == ["default/a", "default/a", "default/b", "default/b"]


def test_a_look_that_wants_the_next_at_once_gets_it_but_not_without_end(looks):
    looks.answers["default/a"] = lambda now: now
    loop = made(["default/a"], looks)
    loop.turn(time.time())
    idle(loop)
    assert looks.count("default/a") == 10


def test_a_slow_deployment_holds_up_no_other(looks):
    """Flagger #638: at about fifty canaries the loop took 30 minutes instead of 5."""
    gate = threading.Event()
    looks.answers["default/slow"] = lambda now: gate.wait(5) and None
    loop = made(["default/slow", *(f"default/{n}" for n in range(50))], looks)
    for step in range(5):
        loop.turn(100.0 + step)
        wait_until(
            lambda: all(f.done() for k, f in loop._running.items() if k != "default/slow"), deadline_s=5, what="looks"
        )
    assert looks.count("default/slow") == 1
    assert all(looks.count(f"default/{n}") == 5 for n in range(50))
    gate.set()
    loop.stop()


@pytest.mark.parametrize("error", [Unavailable("away", do="wait"), RuntimeError("a fault of ours")])
def test_a_look_that_fails_is_repeated_ever_later_and_ends_nothing(looks, error, monkeypatch):
    looks.answers["default/a"] = error
    loop = made(["default/a"], looks)
    times = []
    for step in range(400):
        before, now = looks.count("default/a"), 1000.0 + step * 0.1
        monkeypatch.setattr("modelyard.rollout.laptop.looking.time", SimpleNamespace(time=lambda now=now: now))
        loop.turn(now)
        idle(loop)
        if looks.count("default/a") > before:
            times.append(now)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == pytest.approx(sorted(gaps), abs=0.11)
    assert gaps[0] < 2
    assert gaps[-1] == pytest.approx(10, abs=0.11)


def test_a_conflict_is_looked_at_again_at_once(looks):
    answers = iter([Conflict("changed", do="look again"), None])
    looks.answers["default/a"] = lambda now: next(answers)
    loop = made(["default/a"], looks)
    for _ in range(2):
        loop.turn(100.0)
        idle(loop)
    assert looks.count("default/a") == 2


def test_whoever_wakes_it_is_heard_before_the_poll(looks):
    loop = made(["default/a"], looks)
    loop.turn(100.0)
    idle(loop)
    loop.wake("default/a")
    began = time.monotonic()
    loop.rest(30)
    assert time.monotonic() - began < 5
    loop.turn(100.0)
    idle(loop)
    assert looks.count("default/a") == 2


def test_waking_a_deployment_that_is_gone_does_no_harm(looks):
    loop = made(["default/a"], looks)
    loop.wake("default/gone")
    assert loop.turn(100.0) > 0
    idle(loop)
    assert looks.seen == ["default/a"]


def test_every_log_of_a_yard_is_known(tmp_path: Path) -> None:
    home = Home(tmp_path)
    server = home.arms / "default~digits" / "a1" / "123" / "server.log"
    for log in (home.logs / "envoy.log", server):
        log.parent.mkdir(parents=True)
        log.touch()
    assert set(home.every_log()) == {home.logs / "envoy.log", server}
