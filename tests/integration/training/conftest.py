import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from modelyard.data.prepare import prepare
from modelyard.processes import wait_until
from modelyard.spec.codec import to_json
from modelyard.spec.data import Data, Splits
from modelyard.spec.train import Optimizer, RecipeRef, Schedule, Train, TrainResources
from modelyard.storage.code import pack
from modelyard.training.files import EXITS, FINISHED, JOB, LOG
from modelyard.training.job import TrainJob

HERE = Path(__file__).parent
SECONDS = 120.0


@dataclass
class Running:
    """A launcher and its ranks."""

    pid: int
    out: Path

    def ranks(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []

    def everyone(self) -> list[psutil.Process]:
        try:
            launcher = psutil.Process(self.pid)
            return [launcher, *launcher.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def until_step(self, step: int) -> None:
        """Wait for the checkpoint of a step, or a later one."""

        def reached() -> bool:
            if (self.out / EXITS).exists():
                pytest.fail(f"ended before step {step}:\n{(self.out / LOG).read_text()[-3000:]}")
            there = [int(path.name.split("-")[1]) for path in (self.out / "checkpoints").glob("step-*")]
            return max(there, default=0) >= step

        wait_until(reached, deadline_s=SECONDS, what=f"step {step}")

    def kill(self) -> None:
        """SIGKILL to the whole group at once."""
        everyone = self.everyone()
        os.killpg(self.pid, signal.SIGKILL)
        gone(everyone)

    def until_ended(self) -> dict[str, int]:
        """Wait for the end; gives exit codes of ranks that failed."""
        everyone = self.everyone()
        wait_until((self.out / EXITS).exists, deadline_s=SECONDS, what="the end of the training")
        gone(everyone)
        return json.loads((self.out / EXITS).read_text())


def gone(processes: list[psutil.Process]) -> None:
    def none_left() -> bool:
        return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)

    def quiet() -> bool:
        try:
            return none_left()
        except psutil.NoSuchProcess:
            return False

    wait_until(quiet, deadline_s=20, what="the end of all processes")


@pytest.fixture(scope="module")
def agents():
    """Starts launchers; all end with the test module."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "agents.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    yield process
    process.stdin.close()
    process.wait(timeout=20)
    process.stdout.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """324 small images of four kinds, in shards of 40."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    label = np.arange(324) % 4
    image = rng.normal(0, 1, (324, 8, 8)).astype(np.float32) + label[:, None, None] * np.eye(8, dtype=np.float32)
    np.savez(folder / "small.npz", image=image, label=np.array([str(one) for one in label]))
    splits = Splits(train=0.7, validation=0.15, test=0.15, stratify="label", seed=1)
    prepare(Data(source="small.npz", splits=splits, shard_size=40), base=folder, out=folder / "prepared")
    return folder / "prepared"


@pytest.fixture(scope="session")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "recipe.py").write_text((HERE / "recipe_under_test.py").read_text())
    return pack(folder, tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def job(data, code) -> TrainJob:
    from modelyard.data.prepared import load_prepared

    train = Train(
        recipe=RecipeRef(use="recipe.py:Recipe"), optimizer=Optimizer(name="adamw", lr=0.01, weight_decay=0.01),
        schedule=Schedule(name="cosine", warmup="10%"), epochs=3, batch_size=8, checkpoint_every=1, clip_norm=1.0,
        label_smoothing=0.1, resources=TrainResources(processes_per_node=2),
    )  # fmt: skip
    return TrainJob(
        train=train, data=str(data), data_fingerprint=load_prepared(data).fingerprint,
        code=str(code.path), code_digest=code.digest,
    )  # fmt: skip


def with_train(job: TrainJob, **changes) -> TrainJob:
    return replace(job, train=replace(job.train, **changes))


def with_resources(job: TrainJob, **changes) -> TrainJob:
    return with_train(job, resources=replace(job.train.resources, **changes))


@pytest.fixture
def start(agents):
    """Start a training's ranks in a folder; a folder with checkpoints is gone on from."""
    started: list[Running] = []

    def begin(job: TrainJob, out: Path) -> Running:
        out.mkdir(parents=True, exist_ok=True)
        (out / EXITS).unlink(missing_ok=True)
        for report in out.glob("failure-*.json"):
            report.unlink()
        (out / JOB).write_text(to_json(job))
        from modelyard.storage.code import unpack

        code = unpack(Path(job.code), job.code_digest, out / "code")
        argv = [str(out / JOB), str(out), str(code), str(job.train.resources.processes_per_node)]
        agents.stdin.write(json.dumps({"argv": argv, "log": str(out / LOG)}) + "\n")
        agents.stdin.flush()
        running = Running(int(agents.stdout.readline()), out)
        started.append(running)
        return running

    yield begin
    for running in started:
        if running.everyone():
            running.kill()


def finished(out: Path) -> dict:
    assert (out / FINISHED).exists(), (out / LOG).read_text()[-3000:]
    return json.loads((out / FINISHED).read_text())
