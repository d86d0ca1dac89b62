"""Launchers that start at once, and small data to train on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.trainings import job_of, small_data, with_resources
from tests.integration.training.running import Running

from modelyard.spec.codec import to_json
from modelyard.storage.code import unpack
from modelyard.training.files import EXITS, JOB, LOG
from modelyard.training.job import TrainJob

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def agents():
    """Starts launchers; all end with the test module."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # bits are promised on the CPU only
    process = subprocess.Popen(
        [sys.executable, str(HERE / "agents.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    yield process
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def job(data, tmp_path_factory) -> TrainJob:
    made = job_of(data, tmp_path_factory.mktemp("job"), checkpoint_every=1, clip_norm=1.0, label_smoothing=0.1)
    return with_resources(made, processes_per_node=2)


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
