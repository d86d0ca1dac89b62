"""A worker's look: what is told, what is fenced, when it comes back."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
import structlog
from tests.fakes.cluster import FakeKube
from tests.fakes.source import Source
from tests.fakes.world import KEY, MODEL, FakeWorld

from modelyard.errors import Unavailable
from modelyard.kube.port import EVENT, MODEL_DEPLOYMENT
from modelyard.processes import wait_until
from modelyard.rollout import commands
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.metadata import Metadata
from modelyard.spec.registry import MLflow, ModelRegistry, ModelRegistrySpec
from modelyard.spec.rollout import Phase
from modelyard_operator.due import Queue
from modelyard_operator.index import Index
from modelyard_operator.looking import Looking
from modelyard_operator.metrics import Metrics
from modelyard_operator.registries import Registries
from modelyard_operator.telling import Events, Note, notes_on_wish, trace_of

REGISTRY = "default/main"
SPEC = ModelRegistry(
    metadata=Metadata(name="main"), spec=ModelRegistrySpec(mlflow=MLflow(tracking_uri="http://mlflow.test"))
)


class Shell:
    """A worker over a world in memory."""

    def __init__(self, it: FakeWorld) -> None:
        self.it, self.kube, self.leading = it, FakeKube(clock=lambda: it.now), True
        self.queue, self.index = Queue(), Index()
        self.source = Source(it.registry)
        self.registries = Registries(self.kube, connect=lambda *_: self.source, clock=lambda: it.now)  # type: ignore[arg-type, return-value]
        self.registries.put(REGISTRY, SPEC)
        self.metrics = Metrics(self.index, self.queue)
        self.index.put(MODEL_DEPLOYMENT, {"metadata": {"name": MODEL, "namespace": "default", "uid": "u-1"},
                                          "spec": {"model": {"name": MODEL}}})  # fmt: skip
        self.looking = Looking(
            it.world,
            queue=self.queue,
            index=self.index,
            registries=self.registries,
            events=Events(self.kube, self.index, me="replica-1"),
            metrics=self.metrics,
            leading=lambda: self.leading,
            clock=lambda: it.now,
        )

    def look(self) -> None:
        self.queue.wake(KEY, forgive=True)
        taken = self.queue.take()
        assert taken is not None
        self.looking.turn(taken)

    def poll(self) -> None:
        self.registries.poll(REGISTRY)

    def run(self, looks: int = 60) -> None:
        for _ in range(looks):
            self.poll()
            self.look()
            self.it.pass_time(1.0)

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(each["type"], each["reason"]) for each in self.kube.all(EVENT)]

    def metric(self, line: str) -> str:
        found = [each for each in self.metrics.text().decode().splitlines() if each.startswith(line)]
        return found[0].rpartition(" ")[2] if found else ""


@pytest.fixture
def it() -> FakeWorld:
    made = FakeWorld(rps=2000)
    made.wish()
    made.version("1")
    made.alias("1")
    return made


@pytest.fixture
def shell(it: FakeWorld) -> Shell:
    return Shell(it)


def test_a_version_is_rolled_out_by_workers_as_by_the_loop(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    assert it.stable == "1"
    it.version("2")
    it.alias("2")
    shell.run()
    assert it.stable == "2"
    it.version("3", errors=0.5)
    it.alias("3")
    shell.run()
    assert it.stable == "2"
    assert it.attempt.status.phase is Phase.FAILED


def test_a_move_of_the_alias_makes_the_canary_in_one_turn(it: FakeWorld, shell: Shell) -> None:
    """A hundred that change at once are worked off one after the other, not all half-way."""
    shell.run()
    it.version("2")
    it.alias("2")
    shell.poll()
    shell.look()
    assert it.arm_of("2") in it.arms.arms(KEY)


def test_what_nobody_waits_for_is_left_for_later_while_others_are_due(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    kept: list[str] = []
    shell.looking._then = lambda key, _spec: kept.append(key)
    it.version("2")
    it.alias("2")
    shell.poll()
    shell.queue.wake("default/another")
    shell.queue.wake(KEY, after_s=-1.0, forgive=True)
    taken = shell.queue.take()
    assert taken is not None
    assert taken.key == KEY
    told = len(shell.events)
    shell.looking.turn(taken)
    assert it.arm_of("2") in it.arms.arms(KEY)
    assert (len(shell.events), kept) == (told, [])
    shell.queue.forget("default/another")
    shell.look()
    assert ("Normal", "RolloutCreated") in shell.events[told:]
    assert kept == [KEY]


def test_what_is_owed_is_not_owed_for_ever(it: FakeWorld, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.run()
    monkeypatch.setattr("modelyard_operator.looking.OWED_S", 0.01)
    kept: list[str] = []
    shell.looking._then = lambda key, _spec: kept.append(key)

    def kept_although_another_waits() -> bool:
        shell.queue.wake("default/another")
        shell.queue.wake(KEY, after_s=-1.0, forgive=True)
        taken = shell.queue.take()
        assert taken is not None
        shell.looking.turn(taken)
        return kept == [KEY]

    assert not kept_although_another_waits()
    wait_until(kept_although_another_waits, deadline_s=10.0, what="what is owed")


def test_people_read_what_happened_once(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    it.version("2", errors=0.5)
    it.alias("2")
    shell.run(120)
    told = shell.events
    assert ("Normal", "RolloutCreated") in told
    assert ("Normal", "RolloutSuccessful") in told
    assert ("Warning", "RolloutFailed") in told
    assert ("Warning", "TargetFailed") in told
    (failed,) = [each for each in shell.kube.all(EVENT) if each["reason"] == "RolloutFailed"]
    assert "digits-00002" in failed["message"]
    assert failed["involvedObject"] == {"apiVersion": "modelyard.dev/v1alpha1", "kind": "ModelDeployment",
                                        "namespace": "default", "name": "digits", "uid": "u-1"}  # fmt: skip
    assert all(each["count"] == 1 for each in shell.kube.all(EVENT))


def test_the_same_event_again_is_counted_not_repeated(shell: Shell) -> None:
    events, note = Events(shell.kube, shell.index, me="a"), Note("Warning", "AliasMissing", "digits has no alias")
    for at in (0.0, 1.0, 700.0):
        events.tell(KEY, [note], now=at)
    Events(shell.kube, shell.index, me="b").tell(KEY, [note], now=701.0)
    (event,) = shell.kube.all(EVENT)
    assert event["count"] == 3


def test_an_event_that_cannot_be_made_holds_up_nothing(it: FakeWorld, shell: Shell) -> None:
    def refuse(_call: Any) -> None:
        raise Unavailable("the API is away", do="wait")

    shell.kube.before = refuse
    shell.run()
    assert it.stable == "1"


def test_who_does_not_lead_writes_nothing_anywhere(it: FakeWorld, shell: Shell) -> None:
    """The old leader goes on working beside the new one: argoproj/argo-rollouts #2117."""
    shell.leading = False
    shell.run(5)
    assert it.rollouts == ()
    assert shell.kube.writes == 0


def test_a_leader_that_loses_the_lease_in_mid_look_tags_nothing_more(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    it.version("2", errors=0.5)
    it.alias("2")
    while it.attempt.status.phase is not Phase.ROLLING_BACK:
        shell.run(1)
    tagged = []
    tag = it.registry.tag

    def losing(model: str, version: str, tags: Mapping[str, str]) -> None:
        tagged.append(version)
        tag(model, version, tags)

    shell.source.tag = losing  # type: ignore[method-assign]
    calls = 0

    def leading() -> bool:
        nonlocal calls
        calls += 1
        return calls == 1  # at the beginning of the look only

    shell.looking._leading = leading
    for _ in range(20):
        calls = 0
        shell.look()
        it.pass_time(1.0)
    assert tagged == []
    assert it.attempt.status.phase is Phase.ROLLING_BACK
    shell.looking._leading = lambda: True
    shell.run(20)
    assert tagged
    assert it.attempt.status.phase is Phase.FAILED


def test_mlflow_that_is_away_for_an_hour_changes_a_condition_and_nothing_else(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    it.registry.away = True
    writes, acts = it.records.writes, it.arms.acts + it.router.acts
    for _ in range(720):
        it.pass_time(5.0)
        with suppress(Unavailable):
            shell.poll()
        shell.look()
    assert it.condition("Degraded") == ("True", "RegistryUnavailable")
    assert it.condition("Ready")[0] == "True"
    assert it.records.writes - writes == 1
    assert it.arms.acts + it.router.acts == acts
    it.registry.away = False
    shell.run(2)
    assert it.condition("Degraded")[0] == "False"


def test_after_a_restart_nothing_is_written_while_the_registry_is_still_unread(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    writes = it.records.writes
    again = Shell(it)
    again.look()
    assert it.records.writes == writes
    again.run(5)
    assert it.records.writes == writes, "and nothing afterwards, because nothing changed"


def test_trouble_pauses_a_deployment_longer_each_time(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    calls = 0

    def full(_key: str, _arm: Any) -> None:
        nonlocal calls
        calls += 1
        raise Unavailable("the quota is used up", do="ask for more")

    it.arms.ensure = full  # type: ignore[method-assign]
    it.wish(replicas=3)
    shell.look()
    for _ in range(30):
        taken = shell.queue.take()
        assert taken is not None
        shell.looking.turn(taken)
        if calls > 4:
            break
    assert shell.metric('modelyard_operator_look_seconds_count{result="trouble"}') == f"{calls}.0"


def test_a_crash_in_a_look_ends_no_worker(it: FakeWorld, shell: Shell) -> None:
    def crash(_key: str) -> Any:
        raise ZeroDivisionError

    it.router.weights = crash  # type: ignore[method-assign]
    shell.poll()
    shell.look()
    assert shell.metric('modelyard_operator_look_seconds_count{result="crash"}') == "1.0"


def test_a_deployment_that_is_gone_is_forgotten(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    it.records.delete(it.deployment)
    shell.index.drop(MODEL_DEPLOYMENT, KEY)
    shell.look()
    assert KEY not in it.memory
    assert len(shell.queue) == 0


def test_the_log_carries_one_trace_through_an_attempt(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    it.version("2")
    it.alias("2")
    seen: list[Mapping[str, Any]] = []
    inner = shell.looking._world.router.weights

    def weights(key: str) -> Any:
        seen.append(structlog.contextvars.get_contextvars())
        return inner(key)

    it.router.weights = weights  # type: ignore[method-assign]
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        shell.run()
    assert {each["name"] for each in seen} == {"digits"}
    traces = {each["trace"] for each in lines if each.get("rollout") == "digits-00002"}
    assert traces == {trace_of(it.attempt)}
    (named,) = [each for each in lines if each.get("reason") == "RolloutSuccessful"]
    assert (named["namespace"], named["name"], named["version"]) == ("default", "digits", "2")
    assert named["digest"] == it.attempt.spec.digest


def test_a_condition_that_comes_is_told_and_one_that_stays_is_not(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    before: ModelDeployment = it.deployment
    it.alias(None)
    shell.run(2)
    assert [each.reason for each in notes_on_wish(before, it.deployment)] == ["AliasMissing"]
    assert notes_on_wish(it.deployment, it.deployment) == ()


def test_phases_and_alias_lag_are_metrics(it: FakeWorld, shell: Shell) -> None:
    from modelyard.kube.port import MODEL_ROLLOUT

    shell.index.put(MODEL_DEPLOYMENT, {
        "metadata": {"name": MODEL, "namespace": "default", "uid": "u-1"},
        "spec": {"model": {"name": MODEL}},
        "status": {"rollout": "digits-00002", "stable": {"version": "1"},
                   "alias": {"version": "2", "observedAt": "1970-01-01T00:00:05Z"}},
    })  # fmt: skip
    shell.index.put(MODEL_ROLLOUT, {
        "metadata": {"name": "digits-00002", "namespace": "default"},
        "spec": {"deployment": MODEL},
        "status": {"phase": "Progressing"},
    })  # fmt: skip
    labels = 'namespace="default",phase="Progressing",rollout="digits-00002"'
    assert shell.metric(f'modelyard_rollout_phase{{deployment="digits",{labels}}}') == "1.0"
    assert float(shell.metric('modelyard_alias_lag_seconds{deployment="digits",namespace="default"}')) > 1e6


def test_a_person_who_aborts_is_heard_at_once(it: FakeWorld, shell: Shell) -> None:
    shell.run()
    it.version("2")
    it.alias("2")
    shell.run(3)
    it.patch(commands.abort(it.attempt))
    shell.run(60)
    assert it.attempt.status.phase is Phase.FAILED
    assert it.stable == "1"
