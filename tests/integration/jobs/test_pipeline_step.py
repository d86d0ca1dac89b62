"""`trainOn: kubernetes`: a pipeline's train step, and the job that it makes in a real API server.

Nobody runs pods there: the test writes the job's status as its operator would.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.fixtures import Cluster
from tests.fakes.artifacts import FakeArtifact
from tests.fakes.tracked_runs import TrackedRuns
from tests.fakes.training_cluster import Pod
from tests.unit.modelyard_pipelines.test_steps import TRAIN, Way
from tests.unit.training.launching import World

from modelyard.errors import Conflict, StageFailed
from modelyard.kube import client
from modelyard.kube.port import PYTORCH_JOB
from modelyard.processes import wait_until
from modelyard.storage.code import pack
from modelyard_pipelines import wiring
from modelyard_pipelines.components.summarize import summarize
from modelyard_pipelines.components.train import train
from modelyard_pipelines.tracking import STEP

pytestmark = pytest.mark.process
IMAGE = "registry.example.com/modelyard/pipelines@sha256:" + "0" * 64


class Step:
    """One train step; the store is a folder, MLflow in memory."""

    def __init__(self, cluster: Cluster, namespace: str, home: Path, patch: pytest.MonkeyPatch) -> None:
        (home / "artifacts").mkdir()
        self._kube, self._namespace, self._home = cluster.kube, namespace, home
        self.make = lambda name: FakeArtifact(home / "artifacts", name)
        self.tracked = TrackedRuns()
        patch.setattr(wiring, "runs", lambda _model: self.tracked)
        patch.setattr(client, "connect", lambda: cluster.kube)
        for name, value in {"NAMESPACE": namespace, "IMAGE": IMAGE, "JOB": "job-1"}.items():
            patch.setenv(f"MODELYARD_{name}", value)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (home / "user").mkdir()
        (home / "user" / "recipe.py").write_text("class Recipe: ...\n")
        code = pack(home / "user", home / "packed")
        wiring.put_code(code, self.store)
        self.trained, self.numbers = self.make("trained"), self.make("numbers")
        self._given: Any = {
            "model": "m", "train": TRAIN, "metrics": {}, "code": code.digest, "store": self.store, "on": "kubernetes",
            "prepared": Way(home, self.make).prepared, "trained": self.trained, "numbers": self.numbers,
            "report": self.make("report"),
        }  # fmt: skip

    @property
    def store(self) -> str:
        return str(self._home / "store")

    def __call__(self, operator: Callable[[Any], None]) -> None:
        """Train, while `operator` is given the job once it is there."""
        raised: list[BaseException] = []

        def work() -> None:
            try:
                found = lambda: self._kube.list(PYTORCH_JOB, namespace=self._namespace).items  # noqa: E731
                operator(wait_until(found, deadline_s=60, what="the job")[0])
            except BaseException as error:
                raised.append(error)

        beside = threading.Thread(target=work, daemon=True)
        beside.start()
        try:
            train(**self._given)
        finally:
            beside.join(60)
            assert not raised, raised

    def ends(self, job: Any, kind: str, message: str = "") -> None:
        """Write the status of a job that is over."""
        said = {"type": kind, "status": "True", "reason": f"PyTorchJob{kind}", "message": message}
        for _ in range(10):
            found: Any = self._kube.get(PYTORCH_JOB, self._namespace, job["metadata"]["name"])
            found["status"] = {"conditions": [said], "replicaStatuses": {}}
            try:
                self._kube.replace(found, manager="training-operator", subresource="status")
            except Conflict:
                continue
            return

    def succeeds(self, job: Any) -> None:
        world = World(self._home, job=None, changes={"store": self.store})  # type: ignore[arg-type]
        pod: Any = Pod(cluster=None, namespace="", name="", uid="1", index=0, start=0, spec=_pod(job))  # type: ignore[arg-type]
        world.hand_in(pod)
        self.ends(job, "Succeeded")

    def jobs(self) -> tuple[Any, ...]:
        return tuple(self._kube.list(PYTORCH_JOB, namespace=self._namespace).items)

    def summary(self, state: str) -> str:
        """What the run's last step writes."""
        words, said = self.make("words"), type("Status", (), {"state": state, "error_message": ""})
        summarize(model="m", notify="", words=words, report=self.make("page"), status=said)  # type: ignore[arg-type]
        return words.text()


def _pod(job: Any) -> Any:
    return job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]


@pytest.fixture
def step(training_cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step:
    return Step(training_cluster, namespace, tmp_path, monkeypatch)


def test_the_step_gives_what_its_job_trained_in_the_pod_s_namespace_with_the_pod_s_image(step: Step) -> None:
    made: list[Any] = []
    step(lambda job: (made.append(job), step.succeeds(job))[1])  # type: ignore[func-returns-value]
    assert [one["image"] for one in _pod(made[0])["containers"]] == [IMAGE]
    assert made[0]["metadata"]["name"].startswith("train-m-")
    assert step.trained.metadata["digest"].startswith("sha256:")
    assert (Path(step.trained.path) / "model.safetensors").read_bytes() == b"weights"
    assert step.tracked.ended()["train"] == "FINISHED"
    assert "## Train" in step.summary("SUCCEEDED")


def test_a_job_that_failed_fails_the_step_and_the_summary_says_why(step: Step) -> None:
    with pytest.raises(StageFailed, match="the job exceeded its backoff limit"):
        step(lambda job: step.ends(job, "Failed", "the job exceeded its backoff limit"))
    assert step.tracked.ended()["train"] == "FAILED"
    words = step.summary("FAILED")
    assert words.startswith("# m: Failed")
    assert "the job exceeded its backoff limit" in words


def test_a_step_that_is_cancelled_deletes_its_job_and_is_said_to_be_stopped(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelyard.training import launcher

    seen = threading.Event()

    def told_to_stop(*_: object) -> None:
        assert seen.wait(60)
        raise KeyboardInterrupt  # what SIGTERM becomes in a step

    monkeypatch.setattr(launcher._Running, "_watch", told_to_stop)
    with pytest.raises(KeyboardInterrupt):
        step(lambda _job: seen.set())
    assert step.jobs() == ()
    assert {one.tags[STEP]: one.status for one in step.tracked.known.values() if STEP in one.tags}["train"] == "KILLED"
    words = step.summary("CANCELLED")
    assert words.startswith("# m: Stopped")
    assert "train was told to stop" in words
