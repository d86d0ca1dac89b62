"""What each port of the rollout loop must do; held against the fake and the laptop's real thing.

A world of its own joins by one more parameter: something that has the port and what happens to it in the world.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.fakes.arms import FakeArms
from tests.fakes.cluster import FakeKube
from tests.fakes.cluster_ports import At, ClusterPorts
from tests.fakes.counters import FakeCounters
from tests.fakes.plain_registry import PlainRegistry
from tests.fakes.records import FakeRecords
from tests.fakes.router import FakeRouter
from tests.fakes.stub_server import Stub, StubServer

from modelyard.errors import Conflict
from modelyard.processes import wait_until
from modelyard.rollout.cluster.records import KubeRecords
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.laptop.arms import LaptopArms
from modelyard.rollout.laptop.counters import EnvoyCounters
from modelyard.rollout.laptop.home import Home
from modelyard.rollout.laptop.records import FileRecords
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.rollout.ports import Arms, Counters, Records, Router
from modelyard.spec.deployment import DeploymentSpec, DeploymentStatus, ModelDeployment, ModelRef, Traffic
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import ModelRollout, Phase, RolloutSpec, RolloutStatus, RolloutWeights
from modelyard.storage.atomic import digest_bytes
from modelyard.verdict import Outcome, Reason, Verdict

KEY = "default/digits"
SPEC = DeploymentSpec(model=ModelRef(name="digits", alias="champion"))
WISH = ModelDeployment(metadata=Metadata(name="digits"), spec=SPEC)
DIGEST = digest_bytes(b"1")
ENVOY = pytest.param("envoy", marks=pytest.mark.process)


def attempt(number: int, *, deployment: str = "digits") -> ModelRollout:
    spec = RolloutSpec(deployment=deployment, version="1", digest=DIGEST, arm="a1", serving=SPEC)
    return ModelRollout(metadata=Metadata(name=f"{deployment}-{number:05d}"), spec=spec)


# records


API_SERVER = pytest.param("server", marks=pytest.mark.process)


@pytest.fixture(params=["memory", "files", "cluster", API_SERVER])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Records:
    if request.param == "cluster":
        return KubeRecords(FakeKube(), manager="modelyard")
    if request.param == "server":
        kube, namespace = request.getfixturevalue("cluster").kube, request.getfixturevalue("namespace")
        return InNamespace(KubeRecords(kube, manager="modelyard", namespace=namespace), namespace)
    return FakeRecords() if request.param == "memory" else FileRecords(tmp_path / "records")


class InNamespace:
    """Records of a namespace that says `default`: tests share one real API server."""

    def __init__(self, records: Records, namespace: str) -> None:
        self.records, self.namespace = records, namespace

    def keys(self) -> tuple[str, ...]:
        return tuple(key.replace(self.namespace, "default") for key in self.records.keys())  # noqa: SIM118  a port

    def deployment(self, key: str) -> ModelDeployment | None:
        found = self.records.deployment(key.replace("default", self.namespace))
        return None if found is None else self.moved(found, "default")

    def rollouts(self, key: str) -> tuple[ModelRollout, ...]:
        found = self.records.rollouts(key.replace("default", self.namespace))
        return tuple(self.moved(each, "default") for each in found)

    def write(self, record: ModelDeployment | ModelRollout) -> ModelDeployment | ModelRollout:
        return self.moved(self.records.write(self.moved(record, self.namespace)), "default")

    def delete(self, record: ModelDeployment | ModelRollout) -> None:
        self.records.delete(self.moved(record, self.namespace))

    @staticmethod
    def moved(record: Any, namespace: str) -> Any:
        return replace(record, metadata=replace(record.metadata, namespace=namespace))


def test_a_record_that_was_written_is_read_back(records: Records) -> None:
    written = records.write(WISH)
    assert written.metadata.resource_version
    assert records.deployment(KEY) == written
    assert records.keys() == (KEY,)


def test_a_record_that_is_not_there_is_none(records: Records) -> None:
    assert records.deployment(KEY) is None
    assert records.keys() == ()
    assert records.rollouts(KEY) == ()


def test_a_write_on_an_old_version_is_a_conflict_and_changes_nothing(records: Records) -> None:
    first = records.write(WISH)
    second = records.write(replace(first, spec=replace(SPEC, replicas=2)))
    with pytest.raises(Conflict):
        records.write(replace(first, spec=replace(SPEC, replicas=3)))
    assert records.deployment(KEY) == second


def test_making_a_record_twice_is_a_conflict(records: Records) -> None:
    records.write(attempt(1))
    with pytest.raises(Conflict):
        records.write(attempt(1))


def test_writing_a_record_that_was_deleted_is_a_conflict(records: Records) -> None:
    written = records.write(WISH)
    records.delete(written)
    records.delete(written)
    with pytest.raises(Conflict):
        records.write(replace(written, spec=replace(SPEC, replicas=2)))


def test_the_generation_counts_changes_of_the_spec_only(records: Records) -> None:
    first = records.write(WISH)
    status = records.write(replace(first, status=DeploymentStatus(rollout="digits-00001")))
    spec = records.write(replace(status, spec=replace(SPEC, replicas=2)))
    assert [each.metadata.generation for each in (first, status, spec)] == [1, 1, 2]


def test_what_is_already_so_keeps_its_version(records: Records) -> None:
    written = records.write(WISH)
    assert records.write(written) == written
    found = records.deployment(KEY)
    assert found is not None
    assert found.metadata.resource_version == written.metadata.resource_version


def test_spec_and_status_in_one_write_are_refused(records: Records) -> None:
    written = records.write(attempt(1))
    both = replace(written, spec=replace(written.spec, paused=True), status=RolloutStatus(phase=Phase.STARTING))  # type: ignore[call-arg, arg-type]
    with pytest.raises((AssertionError, ValueError, Exception), match=r"(?i)spec and (a )?status"):
        records.write(both)


def test_attempts_come_oldest_first_and_only_one_deployment_s(records: Records) -> None:
    for number in (2, 10, 1):
        records.write(attempt(number))
    records.write(attempt(1, deployment="other"))
    assert [each.metadata.name for each in records.rollouts(KEY)] == ["digits-00001", "digits-00002", "digits-00010"]


def test_a_whole_status_is_read_back_as_it_was_written(records: Records) -> None:
    status = RolloutStatus(
        phase=Phase.PROGRESSING,
        step=1,
        step_since=1_763_816_506.123,
        started_at=1_763_816_500.0000002,
        paused_since=0.25,
        weights=RolloutWeights(asked={"a1": 5, "b2": 95}, confirmed={"a1": 5, "b2": 95}),
        analysis={"seen": 3, "log": [0.1, 1e-300, -2.5e300], "open": {"rate": 0.3333333333333333}, "worst": "Infinity"},
        verdict=Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.NO_EVIDENCE, message="0 requests < 30"),
        alias={"before": "6"},
        timeline=({"at": 1_763_816_500.5, "event": "Weight5", "message": "5 % ≠ 95 %"},),
    )
    written = records.write(replace(records.write(attempt(1)), status=status))
    assert written.status == status
    assert records.rollouts(KEY) == (written,)


def test_labels_and_annotations_are_kept(records: Records) -> None:
    metadata = replace(WISH.metadata, labels={"team": "vision"}, annotations={"why": "a test"})
    written = records.write(replace(WISH, metadata=metadata))
    found = records.deployment(KEY)
    assert found == written
    assert dict(written.metadata.labels) == metadata.labels
    assert dict(written.metadata.annotations) == metadata.annotations


# router


@dataclass
class RouterWorld:
    router: Router
    know: Callable[[str], None]
    """Let the router know of an arm."""
    settle: Callable[[], None]


def cluster_ports(request: pytest.FixtureRequest) -> ClusterPorts | None:
    """The ports over a Kubernetes API, in memory or real; None for another world."""
    if request.param == "cluster":
        return ClusterPorts(FakeKube())
    if request.param != "server":
        return None
    cluster, namespace = request.getfixturevalue("cluster"), request.getfixturevalue("namespace")
    if not cluster.collects:
        pytest.skip("no API server with controllers")
    return ClusterPorts(cluster.kube, namespace)


@pytest.fixture(params=["memory", ENVOY, "cluster", API_SERVER])
def routing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RouterWorld]:
    if (ports := cluster_ports(request)) is not None:
        arms_of = At(ports.arms, ports.key)
        yield RouterWorld(
            At(ports.router, ports.key), lambda name: arms_of.ensure(KEY, _arm(name)), ports.settle_weights
        )  # type: ignore[arg-type]
        return
    if request.param == "memory":
        arms = FakeArms()
        fake = FakeRouter(arms)
        yield RouterWorld(fake, lambda name: arms.ensure(KEY, _arm(name)), fake.settle)
        return
    envoy = EnvoyRouter(tmp_path / "router", log=tmp_path / "envoy.log")
    envoy.start()

    def settled() -> bool:
        weights = envoy.weights(KEY)
        return weights.confirmed == weights.asked

    def settle() -> None:
        wait_until(settled, deadline_s=10, what="the weights")

    yield RouterWorld(envoy, lambda name: envoy.put_arm(KEY, name, "1", SPEC), settle)
    envoy.stop()


def _arm(name: str, *, replicas: int = 1, expected: str = "", rollout: str = "digits-00001") -> EnsureArm:
    return EnsureArm(
        name=name, version="1", digest=DIGEST, replicas=replicas, serving=SPEC, rollout=rollout, expected=expected
    )


def test_nothing_is_routed_before_weights_are_set(routing: RouterWorld) -> None:
    weights = routing.router.weights(KEY)
    assert (dict(weights.asked), weights.confirmed, weights.resource_version) == ({}, {}, "")


def test_weights_are_confirmed_as_they_were_asked_arms_at_zero_included(routing: RouterWorld) -> None:
    for name in ("a", "b"):
        routing.know(name)
    for asked in ({"a": 100}, {"a": 100, "b": 0}, {"a": 95, "b": 5}, {"a": 0, "b": 100}, {"b": 100}, {}):
        routing.router.set_weights(KEY, asked, expected=routing.router.weights(KEY).resource_version)
        routing.settle()
        weights = routing.router.weights(KEY)
        assert dict(weights.asked) == weights.confirmed == asked


def test_a_third_arm_has_its_share_and_leaves_the_others_theirs(routing: RouterWorld) -> None:
    """Stable, canary, and the fresh copy of stable that a canary may be compared with."""
    for name in ("a", "b", "copy"):
        routing.know(name)
    for asked in (
        {"a": 100, "b": 0, "copy": 0}, {"a": 90, "b": 5, "copy": 5}, {"a": 0, "b": 50, "copy": 50},
        {"a": 50, "b": 50, "copy": 0}, {"a": 0, "b": 100}, {"b": 100},
    ):  # fmt: skip
        routing.router.set_weights(KEY, asked, expected=routing.router.weights(KEY).resource_version)
        routing.settle()
        assert routing.router.weights(KEY).confirmed == asked


def test_weights_that_changed_since_they_were_read_are_a_conflict(routing: RouterWorld) -> None:
    for name in ("a", "b"):
        routing.know(name)
    routing.router.set_weights(KEY, {"a": 100}, expected="")
    old = routing.router.weights(KEY).resource_version
    routing.router.set_weights(KEY, {"a": 100, "b": 0}, expected=old)
    with pytest.raises(Conflict):
        routing.router.set_weights(KEY, {"a": 50, "b": 50}, expected=old)
    assert dict(routing.router.weights(KEY).asked) == {"a": 100, "b": 0}


def test_weights_that_are_so_already_keep_their_version(routing: RouterWorld) -> None:
    routing.know("a")
    routing.router.set_weights(KEY, {"a": 100}, expected="")
    before = routing.router.weights(KEY).resource_version
    routing.router.set_weights(KEY, {"a": 100}, expected=before)
    assert routing.router.weights(KEY).resource_version == before


@pytest.mark.parametrize("weights", [{"a": 99}, {"a": 101}, {"a": 150, "b": -50}, {"unknown": 100}])
def test_weights_that_cannot_be_are_refused(routing: RouterWorld, weights: dict[str, int]) -> None:
    for name in ("a", "b"):
        routing.know(name)
    with pytest.raises(Exception, match=r"weights|arm"):
        routing.router.set_weights(KEY, weights, expected="")
    assert dict(routing.router.weights(KEY).asked) == {}


# arms: the laptop's are held to more in tests/integration/laptop/test_arms.py


@dataclass
class ArmsWorld:
    arms: Arms
    settle: Callable[[], None]


@pytest.fixture(params=["memory", ENVOY, "cluster", API_SERVER])
def serving(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArmsWorld]:
    if (ports := cluster_ports(request)) is not None:
        yield ArmsWorld(At(ports.arms, ports.key), ports.settle_arms)  # type: ignore[arg-type]
        return
    if request.param == "memory":
        fake = FakeArms()
        yield ArmsWorld(fake, fake.settle)
        return
    router = EnvoyRouter(tmp_path / "router", log=tmp_path / "envoy.log")
    router.start()
    held = threading.Event()  # no server is ready before the first `settle`

    def launch(*_: object) -> StubServer:
        held.wait(10)
        return StubServer()

    home = Home(tmp_path)
    home.archives.mkdir()
    (home.archives / f"{DIGEST.removeprefix('sha256:')}.mar").write_bytes(b"1")
    arms = LaptopArms(home, PlainRegistry(), router, launch=launch)  # type: ignore[arg-type]

    def settled() -> bool:
        return all(arm.replicas == arm.ready and arm.replicas > 0 for arm in arms.arms(KEY).values())

    def settle() -> None:
        held.set()
        wait_until(settled, deadline_s=20, what="the arms")

    yield ArmsWorld(arms, settle)
    held.set()
    arms.stop()
    router.stop()


def test_an_arm_is_there_at_once_and_ready_later(serving: ArmsWorld) -> None:
    serving.arms.ensure(KEY, _arm("a", replicas=2))
    arm = serving.arms.arms(KEY)["a"]
    assert (arm.replicas, arm.ready, arm.rollout, arm.digest) == (2, 0, "digits-00001", DIGEST)
    serving.settle()
    assert serving.arms.arms(KEY)["a"].ready == 2


def test_making_an_arm_twice_is_a_conflict(serving: ArmsWorld) -> None:
    serving.arms.ensure(KEY, _arm("a"))
    with pytest.raises(Conflict):
        serving.arms.ensure(KEY, _arm("a"))


def test_an_arm_that_is_so_already_keeps_its_version(serving: ArmsWorld) -> None:
    serving.arms.ensure(KEY, _arm("a"))
    before = serving.arms.arms(KEY)["a"].resource_version
    serving.arms.ensure(KEY, _arm("a", expected=before))
    assert serving.arms.arms(KEY)["a"].resource_version == before


def test_another_attempt_takes_an_arm_over_without_a_restart_and_the_old_one_cannot_retire_it(
    serving: ArmsWorld,
) -> None:
    serving.arms.ensure(KEY, _arm("a"))
    serving.settle()
    old = serving.arms.arms(KEY)["a"].resource_version
    serving.arms.ensure(KEY, _arm("a", expected=old, rollout="digits-00002"))
    assert serving.arms.arms(KEY)["a"].ready == 1
    with pytest.raises(Conflict):
        serving.arms.retire(KEY, "a", expected=old)


def test_a_retired_arm_is_seen_with_no_replicas_until_it_is_gone(serving: ArmsWorld) -> None:
    serving.arms.ensure(KEY, _arm("a"))
    serving.settle()
    serving.arms.retire(KEY, "a", expected=serving.arms.arms(KEY)["a"].resource_version)
    assert serving.arms.arms(KEY)["a"].replicas == 0
    serving.settle()
    assert serving.arms.arms(KEY) == {}
    serving.arms.retire(KEY, "a", expected="any")


# counters


@dataclass
class CountersWorld:
    counters: Counters
    serve: Callable[..., Any]


@pytest.fixture(params=["memory", ENVOY, "cluster", API_SERVER])
def counting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CountersWorld]:
    if (ports := cluster_ports(request)) is not None:
        yield CountersWorld(At(ports.counters, ports.key), ports.serve)  # type: ignore[arg-type]
        return
    if request.param == "memory":
        fake = FakeCounters()
        yield CountersWorld(fake, lambda arm, **what: fake.serve(KEY, arm, at=1.0, **what))
        return
    router = EnvoyRouter(tmp_path / "router", log=tmp_path / "envoy.log")
    router.start()
    counters, stub, served = EnvoyCounters(router), Stub(), Counter[str]()

    def serve(arm: str, *, requests: int, errors: int = 0, classes: Sequence[str] = ()) -> None:
        if not served:
            router.put_arm(KEY, arm, "1", replace(SPEC, traffic=Traffic(retries=0)))
            router.set_endpoints(KEY, arm, [stub.port])
            router.set_weights(KEY, {arm: 100}, expected="")
        for number in range(requests):
            stub.code = 500 if number < errors else 200
            stub.label = quote(classes[number], safe="").replace(".", "%2E") if number < len(classes) else ""
            wanted = {"x-modelyard-arm": arm}

            def answered(wanted: dict[str, str] = wanted) -> bool:
                return wanted.items() <= dict(httpx.post(router.url + "/predictions/digits").headers).items()

            wait_until(answered, deadline_s=10, what="an answer of the arm")
        served.update(requests=requests, answers=requests - errors)

        def told() -> bool:
            found = counters.counts(KEY).get(arm)
            return bool(found and found.requests == served["requests"] and found.latency[-1] == served["answers"])

        wait_until(told, deadline_s=10, what="the counters")

    yield CountersWorld(counters, serve)
    stub.die()
    router.stop()


def test_an_arm_that_nobody_asked_yet_is_absent_not_zero(counting: CountersWorld) -> None:
    assert counting.counters.counts(KEY) == {}


def test_counts_only_grow_and_the_last_bucket_holds_all_answers(counting: CountersWorld) -> None:
    counting.serve("a", requests=10, errors=2)
    first = counting.counters.counts(KEY)["a"]
    counting.serve("a", requests=5)
    second = counting.counters.counts(KEY)["a"]
    assert (first.requests, first.errors) == (10, 2)
    assert (second.requests, second.errors) == (15, 2)
    assert len(second.latency) == len(second.bounds) + 1
    assert list(second.latency) == sorted(second.latency)
    assert second.latency[-1] >= second.requests - second.errors


def test_answers_are_counted_by_the_class_that_they_predict(counting: CountersWorld) -> None:
    counting.serve("a", requests=4, errors=0, classes=("7", "hot dog/2.0", "7"))
    assert counting.counters.counts(KEY)["a"].classes == {"7": 2, "hot dog/2.0": 1}
    counting.serve("a", requests=1, classes=("grün",))
    assert counting.counters.counts(KEY)["a"].classes == {"7": 2, "hot dog/2.0": 1, "grün": 1}
