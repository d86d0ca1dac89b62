"""One server of an arm, without a server."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelyard.processes import wait_until
from modelyard.registry.port import Version
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.laptop.arms import LaptopArms
from modelyard.rollout.laptop.home import Home
from modelyard.rollout.laptop.replica import Replica
from modelyard.rollout.observation import Weights
from modelyard.spec.deployment import DeploymentSpec, ModelRef
from modelyard.storage.atomic import digest_bytes

KEY = "default/digits"


class Server:
    """A server that is ready when its gate is open."""

    def __init__(self, port: int = 1234) -> None:
        self.port = port
        self.failure = None
        self.warm: list[int | None] = []
        self.shown = lambda: None
        self.asked, self.gate, self.stopped = threading.Event(), threading.Event(), threading.Event()

    def alive(self) -> bool:
        return True

    def warm_up(self) -> None:
        self.warm.append(self.shown())

    def ready(self) -> bool:
        self.asked.set()
        return self.gate.wait(5)

    def stop(self, grace: float = 0.0) -> None:
        self.stopped.set()


def test_a_server_that_becomes_ready_after_it_was_withdrawn_stays_out_of_the_router():
    server, shown = Server(), []
    replica = Replica(
        "a1", fetch=lambda: Path("x"), launch=lambda _: server, changed=lambda: shown.append(replica.port)
    )
    replica.start()
    assert server.asked.wait(5)
    replica.withdraw()
    server.gate.set()
    replica.stop(0.0)
    assert (replica.port, shown) == (None, [])
    assert server.stopped.is_set()


def test_a_server_is_warm_before_the_router_sends_it_anything():
    server = Server()
    server.gate.set()
    replica = Replica("a1", fetch=lambda: Path("x"), launch=lambda _: server, changed=lambda: None)
    server.shown = lambda: replica.port
    replica.start()
    wait_until(lambda: replica.port == server.port, deadline_s=10, what="the server")
    replica.stop(0.0)
    assert server.warm == [None]  # once, and while the router did not know it


@pytest.mark.parametrize("error", [OSError("no space left"), ValueError("a fault of ours")])
def test_whatever_a_start_raises_the_next_start_may_succeed(error):
    server, errors = Server(), [error]
    server.gate.set()

    def launch(_: Path) -> Server:
        if errors:
            raise errors.pop()
        return server

    replica = Replica("a1", fetch=lambda: Path("x"), launch=launch, changed=lambda: None)
    replica.start()
    wait_until(lambda: replica.port == server.port, deadline_s=10, what="the server")
    assert replica.failure is None
    replica.stop(0.0)


def test_a_server_is_stopped_only_after_the_router_let_it_go(tmp_path: Path):
    """Argo Rollouts #2235: traffic is switched after the old pods are gone."""
    server = Server()
    server.gate.set()
    listed, asked = {server.port}, threading.Event()

    def ports(_key: str, _name: str) -> set[int]:
        asked.set()
        return set(listed)

    router = SimpleNamespace(
        put_arm=lambda *_: None,
        set_endpoints=lambda *_: None,
        loads=lambda _: {},
        ports=ports,
        weights=lambda _: Weights(confirmed={}),
    )
    version = Version(model="digits", version="1", digest=digest_bytes(b"1"))

    def fetch(_version: Version, into: Path) -> Path:
        into.mkdir(parents=True, exist_ok=True)
        (into / "m.mar").write_bytes(b"1")
        return into / "m.mar"

    registry = SimpleNamespace(versions=lambda _: (version,), fetch=fetch)
    arms = LaptopArms(Home(tmp_path), registry, router, launch=lambda *_: server)
    arm = EnsureArm(
        name="a1",
        version="1",
        digest=version.digest,
        replicas=1,
        serving=DeploymentSpec(model=ModelRef(name="digits", alias="champion")),
        rollout="digits-00001",
    )
    arms.ensure(KEY, arm)
    wait_until(lambda: arms.arms(KEY)["a1"].ready == 1, deadline_s=5, what="the server")
    arms.ensure(KEY, replace(arm, replicas=0, expected=arms.arms(KEY)["a1"].resource_version))
    assert asked.wait(5)
    assert not server.stopped.wait(0.3)
    listed.clear()
    assert server.stopped.wait(5)
    arms.stop()
