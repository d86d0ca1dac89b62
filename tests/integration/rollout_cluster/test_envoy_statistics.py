"""What Envoy's own counters say of attempts, read as Envoy Gateway's proxies show them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from tests.fakes.stub_server import Stub

from modelyard.processes import wait_until
from modelyard.rollout.cluster.counters import of_envoy, parsed
from modelyard.rollout.cluster.ledger import Reading
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.spec.deployment import DeploymentSpec, ModelRef, Traffic
from modelyard.units import Duration

pytestmark = pytest.mark.process
KEY = "default/digits"
SPEC = DeploymentSpec(model=ModelRef(name="digits", alias="champion"))


@pytest.fixture
def router(tmp_path: Path) -> Iterator[EnvoyRouter]:
    router = EnvoyRouter(tmp_path / "router", log=tmp_path / "envoy.log")
    router.start()
    yield router
    router.stop()


def reading(router: EnvoyRouter) -> Reading | None:
    """The arm's statistics, under the name that Envoy Gateway gives its cluster."""
    text = httpx.get(f"{router.admin}/stats/prometheus").text
    named = text.replace(f'"{KEY}/a"', '"httproute/default/digits/rule/0/backend/0"')
    return of_envoy(parsed(named), KEY).get(0)


def live(router: EnvoyRouter, traffic: Traffic, *ports: int) -> None:
    router.put_arm(KEY, "a", "1", replace(SPEC, traffic=traffic))
    router.set_endpoints(KEY, "a", ports)
    router.set_weights(KEY, {"a": 100}, expected="")
    wait_until(lambda: router.weights(KEY).confirmed == {"a": 100}, deadline_s=10, what="the route")
    wait_until(lambda: router.ports(KEY, "a") == set(ports), deadline_s=10, what="the endpoints")


def ask(router: EnvoyRouter) -> int:
    return httpx.post(f"{router.url}/predictions/digits", timeout=10).status_code


def test_answers_failures_retries_time_outs_and_missing_servers_are_counted_once_each(router: EnvoyRouter) -> None:
    """With retries on, clients saw 100 of 100 answers while one of two servers failed (tried with Envoy 1.40)."""
    good, bad = Stub(), Stub(code=500)
    live(router, Traffic(retries=1, timeout=Duration("600ms")), good.port, bad.port)
    assert [ask(router) for _ in range(10)] == [200] * 10  # in turn: half of them were tried twice
    assert bad.seen > 0

    def told(requests: int, errors: int) -> bool:
        found = reading(router)
        return found is not None and (found.requests, found.errors) == (requests, errors)

    wait_until(lambda: told(10 + bad.seen, bad.seen), deadline_s=10, what="the failed attempts")
    before = bad.seen
    good.delay_s = bad.delay_s = 2.0
    assert ask(router) == 504
    wait_until(lambda: told(12 + before, before + 2), deadline_s=10, what="both attempts that timed out")
    router.set_endpoints(KEY, "a", ())
    wait_until(lambda: router.ports(KEY, "a") == set(), deadline_s=10, what="no endpoints")
    assert ask(router) == 503
    wait_until(lambda: told(13 + before, before + 3), deadline_s=10, what="the attempt that met no server")
    good.die()
    bad.die()
