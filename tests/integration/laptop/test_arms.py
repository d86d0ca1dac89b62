"""Arms whose servers are stubs, a real Envoy in front."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from tests.fakes.stub_server import StubServer

from modelyard.errors import BadInput, Conflict, Tampered, Unavailable
from modelyard.processes import wait_until
from modelyard.registry.port import Version
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.laptop.arms import LaptopArms
from modelyard.rollout.laptop.counters import EnvoyCounters
from modelyard.rollout.laptop.home import Home
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.spec.deployment import DeploymentSpec, ModelRef, Traffic
from modelyard.storage.atomic import digest_bytes
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason

pytestmark = pytest.mark.process
KEY = "default/digits"


class Archives:
    """A registry with archives only; each version's bytes are its number."""

    def __init__(self) -> None:
        self.away = False
        self.lies = False
        self.fetched = 0

    def versions(self, model: str) -> tuple[Version, ...]:
        if self.away:
            raise Unavailable("the registry does not answer", do="start it")
        return tuple(Version(model=model, version=n, digest=digest_bytes(n.encode())) for n in ("1", "2", "3"))

    def fetch(self, version: Version, into: Path) -> Path:
        self.fetched += 1
        if version.version == "3":
            raise BadInput("version 3 has no archive", do="register it again")
        if self.lies:
            raise Tampered("the bytes differ", do="register it again")
        into.mkdir(parents=True, exist_ok=True)
        (into / "model.mar").write_bytes(version.version.encode())
        return into / "model.mar"


@dataclass
class Fleet:
    arms: LaptopArms
    registry: Archives
    started: list[StubServer]
    ready_at_once: bool = True

    def server(self, count: int) -> StubServer:
        """The server that was started as number `count`."""
        wait_until(lambda: len(self.started) >= count, deadline_s=10, what=f"{count} servers")
        return self.started[count - 1]

    def ready(self, name: str, count: int) -> None:
        wait_until(lambda: self.arms.arms(KEY)[name].ready == count, deadline_s=10, what=f"{count} ready in {name}")


def wanted(name: str, version: str = "1", *, replicas: int = 1, expected: str = "", **traffic: object) -> EnsureArm:
    return EnsureArm(
        name=name,
        version=version,
        digest=digest_bytes(version.encode()),
        replicas=replicas,
        serving=DeploymentSpec(model=ModelRef(name="digits", alias="champion"), traffic=Traffic(**traffic)),
        rollout="digits-00001",
        expected=expected,
    )


@pytest.fixture
def fleets(tmp_path: Path, router: EnvoyRouter, stub: Callable) -> Iterator[Callable[[], Fleet]]:
    made: list[Fleet] = []

    def make() -> Fleet:
        started: list[StubServer] = []

        def launch(archive: Path, _arm: EnsureArm, work: Path) -> StubServer:
            served = StubServer(stub=stub(delay_s=0.01), archive=archive.read_bytes(), is_ready=fleet.ready_at_once)
            started.append(served)
            return served

        registry = Archives()
        arms = LaptopArms(Home(tmp_path / "home"), registry, router, launch=launch)
        fleet = Fleet(arms=arms, registry=registry, started=started)
        made.append(fleet)
        return fleet

    yield make
    for each in made:
        each.arms.stop()


@pytest.fixture
def fleet(fleets) -> Fleet:
    return fleets()


def test_ensure_returns_at_once_and_an_arm_is_ready_only_after_a_prediction(fleet, router):
    """Flagger #1202, kserve #5983: traffic before the primary was ready."""
    fleet.ready_at_once = False
    fleet.arms.ensure(KEY, wanted("a1"))
    server = fleet.server(1)
    assert fleet.arms.arms(KEY)["a1"].ready == 0
    assert router.ports(KEY, "a1") == set()
    server.is_ready = True
    fleet.ready("a1", 1)
    wait_until(lambda: router.ports(KEY, "a1") == {server.port}, deadline_s=5, what="the endpoint")


def test_the_bytes_that_are_served_are_those_of_the_digest(fleet):
    fleet.arms.ensure(KEY, wanted("a2", "2"))
    assert fleet.server(1).archive == b"2"


def test_a_damaged_archive_in_the_cache_is_fetched_again(fleet, tmp_path):
    fleet.arms.ensure(KEY, wanted("a1"))
    fleet.ready("a1", 1)
    file = next((tmp_path / "home/archives").rglob("*.mar"))
    file.write_bytes(b"damaged")
    fleet.started[0].is_alive = False
    assert fleet.server(2).archive == b"1"
    assert fleet.registry.fetched == 2


@pytest.mark.parametrize(
    ("version", "set_up", "outcome", "reason"),
    [
        ("1", {"lies": True}, Outcome.FAILED, Reason.DIGEST_MISMATCH),
        ("3", {}, Outcome.FAILED, Reason.ARTIFACT_MISSING),
        ("9", {}, Outcome.FAILED, Reason.ARTIFACT_MISSING),
        ("1", {"away": True}, Outcome.INCONCLUSIVE, Reason.CANARY_UNAVAILABLE),
    ],
    ids=["other bytes", "no archive", "no such version", "the registry is away"],
)
def test_why_an_arm_cannot_become_ready_is_said(fleet, version, set_up, outcome, reason):
    """kserve #1914, #3262: a server with no model that says Ready."""
    for name, value in set_up.items():
        setattr(fleet.registry, name, value)
    fleet.arms.ensure(KEY, wanted("a1", version))
    failure = wait_until(lambda: fleet.arms.arms(KEY)["a1"].failure, deadline_s=5, what="a failure")
    assert (failure.outcome, failure.reason) == (outcome, reason)
    assert fleet.started == []


def test_an_arm_starts_once_the_registry_is_back(fleet):
    fleet.registry.away = True
    fleet.arms.ensure(KEY, wanted("a1"))
    wait_until(lambda: fleet.arms.arms(KEY)["a1"].failure, deadline_s=5, what="a failure")
    fleet.registry.away = False
    fleet.ready("a1", 1)
    assert fleet.arms.arms(KEY)["a1"].failure is None


def test_a_model_that_cannot_be_loaded_fails_its_arm(fleet):
    """pytorch/serve #2099: healthy after a failed start of the model."""
    fleet.ready_at_once = False
    fleet.arms.ensure(KEY, wanted("a1"))
    fleet.server(1).failure = "NameError: name 'torhc' is not defined"
    failure = wait_until(lambda: fleet.arms.arms(KEY)["a1"].failure, deadline_s=5, what="a failure")
    assert failure.outcome is Outcome.FAILED
    assert "torhc" in failure.message


def test_a_server_that_dies_leaves_the_router_and_is_started_again(fleet, router):
    """pytorch/serve #3191: a dead worker is reported READY."""
    fleet.arms.ensure(KEY, wanted("a1"))
    fleet.ready("a1", 1)
    fleet.ready_at_once = False
    fleet.started[0].is_alive = False
    fleet.ready("a1", 0)
    wait_until(lambda: router.ports(KEY, "a1") == set(), deadline_s=5, what="an empty arm")
    fleet.server(2).is_ready = True
    fleet.ready("a1", 1)
    wait_until(lambda: router.ports(KEY, "a1") == {fleet.started[1].port}, deadline_s=5, what="the new endpoint")


def test_a_server_killed_in_mid_canary_fails_no_client_and_is_evidence(fleet, router, share, load):
    fleet.arms.ensure(KEY, wanted("a1"))
    fleet.arms.ensure(KEY, wanted("a2", "2", replicas=2))
    fleet.ready("a1", 1)
    fleet.ready("a2", 2)
    share(a1=50, a2=50)
    client = load(router.url + "/predictions/digits")
    client.until(200)
    canary = next(server for server in fleet.started if server.archive == b"2")
    canary.stub.die()
    client.until(50)
    canary.is_alive = False
    fleet.server(4)
    fleet.ready("a2", 2)
    client.until(200)
    client.stop()
    assert client.failed == 0, (client.broken, client.answers)
    counts = EnvoyCounters(router).counts(KEY)
    assert counts["a2"].errors > 0
    assert counts["a1"].errors == 0


def test_replicas_come_and_go_without_a_failed_request(fleet, router, share, load):
    fleet.arms.ensure(KEY, wanted("a1", replicas=1))
    fleet.ready("a1", 1)
    share(a1=100)
    client = load(router.url + "/predictions/digits")
    for replicas in (3, 1, 2):
        version = fleet.arms.arms(KEY)["a1"].resource_version
        fleet.arms.ensure(KEY, wanted("a1", replicas=replicas, expected=version))
        fleet.ready("a1", replicas)
        client.until(150)
    client.stop()
    assert client.failed == 0, (client.broken, client.answers)
    assert EnvoyCounters(router).counts(KEY)["a1"].errors == 0


def test_an_arm_is_drained_before_its_server_is_stopped(fleet, router, share, load):
    """kserve #3360: 5xx on SIGTERM; Argo Rollouts #2235: traffic is switched after the old pods are gone."""
    for name, version in (("a1", "1"), ("a2", "2")):
        fleet.arms.ensure(KEY, wanted(name, version))
        fleet.ready(name, 1)
    slow = fleet.started[0]
    slow.stub.delay_s = 1.0
    share(a1=100, a2=0)
    client = load(router.url + "/predictions/digits")
    wait_until(lambda: fleet.arms.arms(KEY)["a1"].in_flight >= 4, deadline_s=5, what="requests in flight")
    share(a2=100)
    fleet.arms.retire(KEY, "a1", expected=fleet.arms.arms(KEY)["a1"].resource_version)
    assert fleet.arms.arms(KEY)["a1"].replicas == 0
    assert not slow.stopped.is_set()
    wait_until(lambda: "a1" not in fleet.arms.arms(KEY), deadline_s=20, what="the end of a1")
    client.until(20)
    client.stop()
    assert client.failed == 0, (client.broken, client.answers)
    assert slow.stopped.is_set()
    assert slow.busy_at_stop == 0
    assert client.answers["a1", 200] == slow.seen_at_stop == slow.stub.seen


def test_an_arm_that_the_route_names_is_not_retired(fleet, share):
    fleet.arms.ensure(KEY, wanted("a1"))
    share(a1=100)
    with pytest.raises(Conflict, match="names a1"):
        fleet.arms.retire(KEY, "a1", expected=fleet.arms.arms(KEY)["a1"].resource_version)


def test_an_arm_that_hangs_is_retired_all_the_same(fleet, router, share):
    fleet.arms.ensure(KEY, wanted("a1", timeout=Duration("1s")))
    fleet.arms.ensure(KEY, wanted("a2", "2", timeout=Duration("1s")))
    fleet.ready("a1", 1)
    share(a1=100, a2=0)
    fleet.started[0].stub.delay_s = 30.0
    threading.Thread(target=lambda: httpx.post(router.url + "/predictions/digits", timeout=20), daemon=True).start()
    wait_until(lambda: fleet.arms.arms(KEY)["a1"].in_flight == 1, deadline_s=5, what="a request in flight")
    share(a2=100)
    fleet.arms.retire(KEY, "a1", expected=fleet.arms.arms(KEY)["a1"].resource_version)
    wait_until(lambda: "a1" not in fleet.arms.arms(KEY), deadline_s=15, what="the end of a1")


def test_an_arm_that_is_wanted_again_while_it_drains_stays(fleet, router, share):
    for name, version in (("a1", "1"), ("a2", "2")):
        fleet.arms.ensure(KEY, wanted(name, version))
        fleet.ready(name, 1)
    share(a1=100, a2=0)
    fleet.started[0].stub.delay_s = 1.0
    threading.Thread(target=lambda: httpx.post(router.url + "/predictions/digits", timeout=20), daemon=True).start()
    wait_until(lambda: fleet.arms.arms(KEY)["a1"].in_flight == 1, deadline_s=5, what="a request in flight")
    share(a2=100)
    fleet.arms.retire(KEY, "a1", expected=fleet.arms.arms(KEY)["a1"].resource_version)
    fleet.arms.ensure(KEY, wanted("a1", expected=fleet.arms.arms(KEY)["a1"].resource_version))
    wait_until(lambda: fleet.arms.arms(KEY)["a1"].in_flight == 0, deadline_s=5, what="the end of the request")
    share(a2=50, a1=50)
    assert fleet.arms.arms(KEY)["a1"].ready == 1
    assert not fleet.started[0].stopped.wait(1.0)


def test_a_yard_that_starts_again_starts_the_same_arms(fleets, router, share):
    first = fleets()
    first.arms.ensure(KEY, wanted("a1", replicas=2))
    first.ready("a1", 2)
    share(a1=100)
    before = first.arms.arms(KEY)["a1"]
    first.arms.stop()
    assert all(server.stopped.is_set() for server in first.started)
    second = fleets()
    second.arms.resume()
    second.ready("a1", 2)
    assert second.arms.arms(KEY)["a1"] == before
    wait_until(
        lambda: httpx.post(router.url + "/predictions/digits").status_code == 200, deadline_s=5, what="an answer"
    )


def test_a_resource_version_that_is_old_changes_nothing(fleet):
    fleet.arms.ensure(KEY, wanted("a1"))
    before = fleet.arms.arms(KEY)["a1"]
    with pytest.raises(Conflict):
        fleet.arms.ensure(KEY, wanted("a1", replicas=5))
    with pytest.raises(Conflict):
        fleet.arms.retire(KEY, "a1", expected="999")
    assert fleet.arms.arms(KEY)["a1"].replicas == before.replicas == 1


def test_asking_twice_starts_one_server(fleet):
    fleet.arms.ensure(KEY, wanted("a1"))
    version = fleet.arms.arms(KEY)["a1"].resource_version
    fleet.arms.ensure(KEY, wanted("a1", expected=version))
    fleet.ready("a1", 1)
    assert fleet.arms.arms(KEY)["a1"].resource_version == version
    assert len(fleet.started) == 1


def test_a_new_attempt_on_the_same_arm_restarts_nothing(fleet):
    fleet.arms.ensure(KEY, wanted("a1"))
    fleet.ready("a1", 1)
    before = fleet.arms.arms(KEY)["a1"]
    again = replace(wanted("a1", expected=before.resource_version), rollout="digits-00002")
    fleet.arms.ensure(KEY, again)
    after = fleet.arms.arms(KEY)["a1"]
    assert (after.rollout, after.ready) == ("digits-00002", 1)
    assert after.resource_version != before.resource_version
    assert len(fleet.started) == 1


def test_a_deployment_whose_wish_was_deleted_leaves_nothing_behind(fleet, router, share):
    for name, version in (("a1", "1"), ("a2", "2")):
        fleet.arms.ensure(KEY, wanted(name, version))
        fleet.ready(name, 1)
    share(a1=95, a2=5)
    fleet.arms.forget(keep=[KEY])
    assert len(fleet.arms.arms(KEY)) == 2
    fleet.arms.forget(keep=[])
    wait_until(lambda: not fleet.arms.arms(KEY), deadline_s=20, what="the end of both arms")
    assert all(server.stopped.is_set() for server in fleet.started)
    wait_until(
        lambda: httpx.post(router.url + "/predictions/digits").status_code == 404, deadline_s=5, what="the route's end"
    )
    fleet.arms.ensure("other/digits", wanted("a1"))  # its name is free again
