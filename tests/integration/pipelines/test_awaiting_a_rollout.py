"""What a pipeline makes of a rollout: Kubeflow's local orchestration over a real API server, whose operator is a test.

The steps before `promote` are taken as done; what the run's summary says in the end is what people read.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.fixtures import Cluster
from tests.fakes.kfp_inline import Inline
from tests.fakes.plain_registry import PlainRegistry
from tests.fakes.tracked_runs import TrackedRuns
from tests.unit.modelyard_pipelines.projects import project

from modelyard.processes import wait_until
from modelyard.rollout.cluster.records import KubeRecords
from modelyard.rollout.observation import arm_name
from modelyard.spec.deployment import Analysis, Canary, DeploymentSpec, ModelDeployment, ModelRef, Strategy
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import ModelRollout, Phase, RolloutSpec, RolloutStatus, RolloutWeights
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason, Verdict
from modelyard_pipelines import bringing_in, wiring
from modelyard_pipelines.sections import parameters
from modelyard_pipelines.train_and_release import train_and_release

pytestmark = pytest.mark.process

DIGEST = "sha256:" + "b" * 64
JOB = "job-1"
SLOW = Canary(progress_deadline=Duration("10m"))
WISH = DeploymentSpec(model=ModelRef(name="digits", alias="champion"), strategy=Strategy(canary=SLOW))
BEFORE: Any = {
    "look": {"source": "sha256:s", "news": "New"}, "prepare": {}, "train": {}, "evaluate": {},
    "gate": {"outcome": "Passed", "champion": "1"}, "compress": {"outcome": "Passed"}, "package": {},
    "register": {"version": "2", "digest": DIGEST},
}  # fmt: skip
STABLE = Verdict(outcome=Outcome.SUCCESSFUL, reason=Reason.STEPS_DONE, message="all steps are done")
WORSE = Verdict(outcome=Outcome.FAILED, reason=Reason.ANALYSIS_FAILED, message="error-rate 6.5 %, allowed 2 %")
UNSURE = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.TOO_FEW_EXAMPLES, message="12 requests in 30 m")


class World:
    """One pipeline run: its registry, its records, what MLflow holds of it."""

    def __init__(self, run: Inline, records: KubeRecords, key: str, ways: dict[str, Any]) -> None:
        self.run, self.records, self.key, self._ways = run, records, key, ways
        self.registry, self.tracked = PlainRegistry(), TrackedRuns()
        for number, digest in (("1", "sha256:" + "a" * 64), ("2", DIGEST)):
            self.registry.add("digits", number, digest)
        self.registry.move_alias("digits", "champion", "1", expected=None)
        whole = self.tracked.begin(JOB)
        registered = self.tracked.begin(JOB, "register", parent=whole)
        self.tracked.log(registered, tags={"modelyard.version": "2", "modelyard.digest": DIGEST})

    def wish(self, spec: DeploymentSpec = WISH) -> None:
        namespace, _, name = self.key.partition("/")
        self.records.write(ModelDeployment(metadata=Metadata(name=name, namespace=namespace), spec=spec))

    def attempt(self) -> ModelRollout:
        """What the operator records when it sees the alias."""
        namespace, _, name = self.key.partition("/")
        spec = RolloutSpec(deployment=name, version="2", digest=DIGEST, arm=arm_name(DIGEST, WISH), serving=WISH)
        made = self.records.write(ModelRollout(metadata=Metadata(name=f"{name}-00001", namespace=namespace), spec=spec))
        assert isinstance(made, ModelRollout)
        return made

    def operator(self, *states: RolloutStatus) -> threading.Thread:
        """Something that begins once the alias names the version, and walks an attempt through these states."""

        def work() -> None:
            wait_until(lambda: self.registry.aliases["digits", "champion"] == "2", deadline_s=60, what="the alias")
            found = self.attempt()
            for state in states:
                found = self.records.write(replace(found, status=state))  # type: ignore[assignment]

        begun = threading.Thread(target=work, daemon=True)
        begun.start()
        return begun

    def pipeline(self, promote: str = "automatic") -> None:
        given = {**parameters(project(), code="sha256:" + "c" * 64), "promote": promote}
        self.run(self._ways["way"], given, known=BEFORE)

    @property
    def summary(self) -> str:
        return self.run.text("summarize", "words")


@pytest.fixture(scope="module")
def ways(cluster: Cluster) -> dict[str, Any]:
    """The pipeline, compiled once; its ModelDeployment stands in a namespace of this module's own."""
    name = "awaiting-a-rollout"
    cluster.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager="tests")
    spec = project({"pipeline.deployment": f"{name}/digits"}).pipeline
    with ThreadPoolExecutor(1) as beside:  # whose stack is short: Kubeflow reads the source of all its callers
        return {"key": f"{name}/digits", "way": beside.submit(train_and_release, spec).result()}


@pytest.fixture
def world(ways: dict[str, Any], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("MODELYARD_JOB", JOB)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(bringing_in, "POLL_S", 0.05)
    records = KubeRecords(cluster.kube, manager="tests")
    made = World(Inline(monkeypatch, tmp_path), records, ways["key"], ways)
    monkeypatch.setattr(wiring, "registry", lambda: made.registry)
    monkeypatch.setattr(wiring, "runs", lambda _model: made.tracked)
    monkeypatch.setattr(wiring, "records", lambda: KubeRecords(cluster.kube, manager="modelyard-pipelines"))
    yield made
    for one in records.rollouts(made.key):
        records.delete(one)
    if wish := records.deployment(made.key):
        records.delete(wish)


def state(phase: Phase, verdict: Verdict | None = None, *, share: int = 0, ended: bool = False) -> RolloutStatus:
    weights = RolloutWeights(confirmed={arm_name(DIGEST, WISH): share})
    return RolloutStatus(phase=phase, weights=weights, verdict=verdict, ended_at=1e9 if ended else None)


def test_a_version_that_becomes_stable_ends_the_run_well(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.wish()
    beside = world.operator(
        state(Phase.PROGRESSING, share=5), state(Phase.SUCCESSFUL, STABLE, share=100, ended=True)
    )  # fmt: skip
    world.pipeline()
    beside.join(30)
    assert world.run.failed == []
    assert world.run.steps[-3:] == ["promote", "rollout", "summarize"]
    assert world.run.text("rollout", "words").startswith("# Successful\n\ndigits-00001: all steps are done")
    assert {name: world.tracked.ended()[name] for name in ("", "promote", "rollout")} == dict.fromkeys(
        ("", "promote", "rollout"), "FINISHED"
    )
    assert world.summary.startswith("# digits: Version 2 is stable")
    assert "all steps are done" in world.summary


@pytest.mark.parametrize("verdict", [WORSE, UNSURE], ids=["worse", "undecided"])
def test_a_version_that_is_not_brought_in_fails_the_run_and_the_summary_has_the_evidence(
    world: World, verdict: Verdict
) -> None:
    world.wish()
    beside = world.operator(state(Phase.ROLLING_BACK, verdict), state(Phase.FAILED, verdict, ended=True))
    world.pipeline()
    beside.join(30)
    assert world.run.failed == ["rollout"]
    assert world.tracked.ended()["rollout"] == "FAILED"
    assert world.summary.startswith("# digits: Version 2 was rolled back")
    assert verdict.message in world.summary


def test_a_rollout_without_an_end_is_given_up_and_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringing_in, "SPARE_S", 0.5)
    quick = Canary(progress_deadline=Duration("1s"))
    world.wish(replace(WISH, strategy=Strategy(canary=quick), analysis=Analysis(max_duration=Duration("1s"))))
    world.pipeline()
    assert world.run.failed == ["rollout"]
    assert world.summary.startswith("# digits: Failed")
    assert "no verdict on version 2 within 2 s" in world.summary


def test_a_wait_that_is_cancelled_is_said_as_such_and_leaves_nothing_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.wish()

    def told_to_stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt  # what SIGTERM becomes in a step

    monkeypatch.setattr(bringing_in, "wait_for_verdict", told_to_stop)
    world.pipeline()
    assert world.run.failed == ["rollout"]
    assert world.tracked.ended()["rollout"] == "KILLED"
    assert "rollout was told to stop" in world.summary
    assert "RUNNING" not in world.tracked.ended().values()


def test_a_deployment_that_is_not_there_or_serves_another_model_is_said(world: World) -> None:
    world.pipeline()
    assert "there is no ModelDeployment awaiting-a-rollout/digits" in world.summary
    assert "modelyard export" in world.summary


def test_where_a_person_promotes_the_run_ends_as_waiting(world: World) -> None:
    world.wish()
    world.pipeline(promote="manual")
    assert world.run.steps[-3:] == ["promote", "waiting", "summarize"]
    assert "modelyard promote digits 2" in world.run.text("waiting", "words")
    assert "version 2 waits for a person" in world.summary
