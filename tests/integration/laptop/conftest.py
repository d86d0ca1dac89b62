"""Servers that behave as told, a real Envoy in front of them, and a client that counts."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fakes.stub_server import Stub

from modelyard.processes import wait_until
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.rollout.laptop.routes import Limits
from modelyard.spec.deployment import DeploymentSpec, ModelRef, Traffic
from modelyard.units import Duration

KEY = "default/digits"


@dataclass
class Load:
    """A client that never pauses; counts answers by arm and status."""

    url: str
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(self.url, content=b"x" * 256)
                    self.answers[answer.headers.get("x-modelyard-arm", "-"), answer.status_code] += 1
                except httpx.HTTPError as error:
                    self.broken.append(repr(error))

    def until(self, count: int) -> None:
        """Wait for so many more answers."""
        goal = self.answers.total() + count
        wait_until(lambda: self.answers.total() >= goal, deadline_s=60, what=f"{goal} answers")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    @property
    def failed(self) -> int:
        return len(self.broken) + sum(count for (_, code), count in self.answers.items() if code != 200)


@pytest.fixture
def stub() -> Iterator[Callable[..., Stub]]:
    made: list[Stub] = []

    def make(**settings: Any) -> Stub:
        made.append(Stub(**settings))
        return made[-1]

    yield make
    for each in made:
        if not each.gone:
            each.die()


@pytest.fixture
def router(tmp_path: Path) -> Iterator[EnvoyRouter]:
    limits = Limits(request_bytes=2_000_000, request_s=1.0)
    router = EnvoyRouter(tmp_path / "router", log=tmp_path / "envoy.log", limits=limits)
    router.start()
    yield router
    router.stop()


@pytest.fixture
def load() -> Iterator[Callable[[str], Load]]:
    made: list[Load] = []

    def make(url: str) -> Load:
        made.append(Load(url))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def serving(**traffic: Any) -> DeploymentSpec:
    if "timeout" in traffic:
        traffic["timeout"] = Duration(traffic["timeout"])
    return DeploymentSpec(model=ModelRef(name="digits", alias="champion"), traffic=Traffic(**traffic))


@pytest.fixture
def put(router: EnvoyRouter) -> Callable[..., None]:
    """Make an arm known with its servers."""
    versions = itertools.count(1)

    def do(arm: str, *stubs: Stub, **traffic: Any) -> None:
        router.put_arm(KEY, arm, str(next(versions)), serving(**traffic))
        router.set_endpoints(KEY, arm, [stub.port for stub in stubs])

    return do


@pytest.fixture
def share(router: EnvoyRouter) -> Callable[..., None]:
    """Set weights and wait until Envoy shows them."""

    def do(**weights: int) -> None:
        router.set_weights(KEY, weights, expected=router.weights(KEY).resource_version)
        wait_until(lambda: router.weights(KEY).confirmed == weights, deadline_s=10, what=f"weights {weights}")

    return do
