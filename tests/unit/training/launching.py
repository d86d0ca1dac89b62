"""A launcher over a cluster in memory, whose pods play scripts."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.fakes.training_cluster import Operator, Pod, Script, TrainingCluster

from modelyard.data.prepared import PreparedData, Shard
from modelyard.kube.port import PERSISTENT_VOLUME_CLAIM, PYTORCH_JOB
from modelyard.processes import wait_until
from modelyard.spec.codec import to_json
from modelyard.spec.train import Checkpoints, RecipeRef, Train, TrainResources
from modelyard.storage.atomic import digest_bytes
from modelyard.storage.code import pack
from modelyard.storage.port import open_store
from modelyard.training import shipping
from modelyard.training.failures import Report
from modelyard.training.job import TrainedModel, TrainJob
from modelyard.training.launcher import train_on_kubernetes
from modelyard.training.submit import Launch

NAMESPACE = "vision"
WEIGHTS = b"weights"


def job_in(folder: Path, **resources: Any) -> TrainJob:
    """A job whose data is one shard of nothing."""
    source, data = folder / "source", folder / "data"
    source.mkdir(parents=True)
    data.mkdir()
    (source / "recipe.py").write_text("class Recipe: ...\n")
    code = pack(source, folder / "code")
    (data / "train-0.arrow").write_bytes(b"shard")
    shard = Shard(name="train-0.arrow", examples=1, digest=digest_bytes(b"shard"), bytes=5)
    prepared = PreparedData(
        fingerprint="sha256:" + "f" * 64, splits={"train": (shard,)}, digests={}, facts={}, counts={}
    )
    (data / "prepared.json").write_text(to_json(prepared))
    if resources.get("nodes", 1) > 1:
        resources.setdefault("checkpoints", Checkpoints(claim="checkpoints"))
    train = Train(recipe=RecipeRef(use="recipe.py:Recipe"), epochs=2, resources=TrainResources(**resources))
    return TrainJob(
        train=train, data=str(data), data_fingerprint=prepared.fingerprint, code=str(code.path), code_digest=code.digest
    )


@dataclass
class World:
    """A cluster, a store and a folder for the result."""

    home: Path
    job: TrainJob
    cluster: TrainingCluster = field(default_factory=TrainingCluster)
    said: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def launch(self) -> Launch:
        told = {"name": "digits", "namespace": NAMESPACE, "store": str(self.home / "store"), "image": "training:1"}
        return Launch(**{**told, **self.changes})

    @property
    def out(self) -> Path:
        return self.home / "out"

    def train(self, script: Script | None = None) -> TrainedModel:
        """Launch it, over an operator of its own where a script is given."""
        if script is None:
            return self._train()
        with Operator(self.cluster, script) as operator:
            self.operator = operator
            return self._train()

    def _train(self) -> TrainedModel:
        return train_on_kubernetes(
            self.job, self.cluster, self.launch, out=self.out, log=self.lines.append,
            progress=lambda message, _share: self.said.append(message),
        )  # fmt: skip

    def hand_in(self, pod: Pod, *, progress: str = "") -> None:
        """What the node with rank 0 does at its end."""
        out = self.home / f"handing-{pod.uid}"
        out.mkdir()
        (out / "model.safetensors").write_bytes(WEIGHTS)
        done = TrainedModel(
            digest=digest_bytes(WEIGHTS), epochs=(), best_epoch=2, steps=8, world_size=1, threads=1,
            examples_per_second=1.0,
        )  # fmt: skip
        (out / "finished.json").write_text(to_json(done))
        (out / "progress.jsonl").write_text(progress)
        files = {each.name: each for each in sorted(out.iterdir())}
        shipping.hand_in(out, open_store(self.launch.store), self.name(pod), files)

    def name(self, pod: Pod) -> str:
        return pod.spec["containers"][0]["args"][1].partition("=")[2]

    def jobs(self) -> tuple[Any, ...]:
        return self.cluster.all(PYTORCH_JOB)

    def succeed(self, pod: Pod) -> None:
        """A pod that trains well."""
        pod.begin()
        pod.write(*(f"[rank {pod.index}] line {number}" for number in range(3)))
        if pod.index == 0:
            self.hand_in(pod)
        pod.end(0)

    def waits(self, pod: Pod) -> None:
        """A pod that trains until it is deleted."""
        pod.begin()
        pod.write(f"[rank {pod.index}] at work")
        wait_until(lambda: pod.gone, deadline_s=60, what="its end")


def claim(mode: str) -> dict[str, Any]:
    """A PersistentVolumeClaim for checkpoints."""
    about = {"name": "checkpoints", "namespace": NAMESPACE}
    kind = PERSISTENT_VOLUME_CLAIM
    return {"apiVersion": "v1", "kind": kind.kind, "metadata": about, "spec": {"accessModes": [mode]}}


def report(what: str, *, kind: str = "StageFailed", rank: int = 0, trace: str = "", do: str = "read the log") -> str:
    """What a node leaves in its termination message."""
    return to_json(Report(rank=rank, kind=kind, what=what, do=do, at=time.time(), trace=trace), indent=None)


def event(kind: str, **what: Any) -> str:
    """An event's line."""
    return f"@modelyard {json.dumps({'at': time.time(), 'event': kind, **what})}"


def in_thread(act: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    """Something that goes on beside the test; and what it raised."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread, raised


def with_resources(job: TrainJob, **changes: Any) -> TrainJob:
    return replace(job, train=replace(job.train, resources=replace(job.train.resources, **changes)))
