"""The stage as it is called: real processes, watched and started again."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from tests.fakes.trainings import RECIPE, job_of, with_resources, with_train
from tests.integration.training.running import gone

from modelyard.errors import BadInput, StageFailed, Tampered
from modelyard.model.folder import verify
from modelyard.processes import wait_until
from modelyard.spec.codec import to_json
from modelyard.training.files import LOG
from modelyard.training.train import train
from modelyard.units import Duration

pytestmark = pytest.mark.process


def test_two_processes_train_a_model_that_another_call_gives_again(job, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    told = []
    trained = train(job, out=tmp_path, progress=lambda message, share: told.append((message, share)))
    assert (trained.world_size, trained.threads, trained.restarts) == (2, 1, 0)
    assert len(trained.epochs) == 2
    assert any("epoch 2/2: train loss" in message for message, _ in told)
    description = verify(tmp_path / "model")
    assert (description.inputs, description.kind) == (["image"], "eager")
    assert description.sample == {"image": {"shape": [1, 8, 8], "dtype": "float32"}}
    assert set(load_file(tmp_path / "model.safetensors")) >= {"head.weight", "features.1.running_mean"}
    left = [path for path in temporary.rglob("*") if path.is_file()]
    assert not left, "nothing is left in the temporary directory"
    assert not list(temporary.glob("torchelastic_*"))
    log = (tmp_path / LOG).stat().st_size
    assert train(job, out=tmp_path) == trained, "what is finished is not done again"
    assert (tmp_path / LOG).stat().st_size == log
    with pytest.raises(BadInput, match="holds another training"):
        train(with_train(job, seed=5), out=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(Tampered, match="not what training wrote"):
        train(job, out=tmp_path)


def test_a_process_that_is_killed_is_started_again_and_the_end_is_the_same(job, tmp_path):
    """The master ran on after a worker had failed (kubeflow/trainer #1579); here all end, and all start again."""
    job = with_train(job, checkpoint_every=2)
    expected = train(job, out=tmp_path / "unbroken")
    out = tmp_path / "broken"
    killed = threading.Event()

    def kill_one() -> None:
        wait_until(lambda: list((out / "checkpoints").glob("step-*")), deadline_s=120, what="a checkpoint")
        launcher = next(
            process
            for process in psutil.Process().children(recursive=True)
            if "modelyard.training.launch" in process.cmdline() and str(out) in process.cmdline()
        )
        os.kill(launcher.children()[0].pid, signal.SIGKILL)
        killed.set()

    killer = threading.Thread(target=kill_one)
    killer.start()
    told = []
    trained = train(job, out=out, progress=lambda message, _: told.append(message))
    killer.join()
    assert killed.is_set()
    assert trained.restarts == 1
    assert trained.digest == expected.digest
    assert any("was killed by SIGKILL" in message for message in told)


CALLER = """
import pathlib, sys
from modelyard.spec.codec import from_json
from modelyard.training.job import TrainJob
from modelyard.training.train import train
job = from_json(TrainJob, pathlib.Path(sys.argv[1]).read_text())
train(job, out=pathlib.Path(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_nothing_is_left_when_the_one_who_called_is_ended(job, tmp_path, how):
    """A killed torchrun was seen to leave its ranks training for seconds."""
    (tmp_path / "job.json").write_text(to_json(with_train(job, epochs=1000)))
    arguments = [str(tmp_path / "job.json"), str(tmp_path / "out")]
    caller = subprocess.Popen([sys.executable, "-c", CALLER, *arguments], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: list((tmp_path / "out" / "checkpoints").glob("step-*")), deadline_s=120, what="a checkpoint")
        everyone = [psutil.Process(caller.pid), *psutil.Process(caller.pid).children(recursive=True)]
        assert len(everyone) >= 4
        caller.send_signal(how)
        caller.wait(timeout=20)
        gone(everyone)
    finally:
        caller.kill()
        caller.wait()


def failing(data, work: Path, method: str, **changes):
    source = RECIPE + f"\n\nclass Bad(Linear):\n    {method}\n"
    return job_of(data, work, source=source, use="recipe.py:Bad", **changes)


def test_a_mistake_in_the_recipe_is_bad_input_with_its_line(data, tmp_path):
    job = failing(data, tmp_path, "def loss(self, outputs, batch): return outputs['x']")
    with pytest.raises(BadInput, match=r"recipe\.py:Bad\.loss raised .*\(recipe\.py, line \d+\)"):
        train(with_resources(job, processes_per_node=2), out=tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_recipe_that_does_not_return_is_ended_and_named(data, tmp_path):
    job = failing(data, tmp_path, "def loss(self, outputs, batch):\n        import time\n        time.sleep(600)")
    job = with_resources(job, stall_timeout=Duration("30s"), restarts=0)  # a busy machine needs half of it to start
    with pytest.raises(StageFailed, match=r"Nothing happened for 30 s.*in loss, recipe\.py line \d+"):
        train(job, out=tmp_path / ".modelyard" / "out")  # as in a project


def test_a_process_that_is_killed_again_and_again_ends_the_training_with_the_reason(data, tmp_path):
    job = failing(data, tmp_path, "def loss(self, outputs, batch): import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StageFailed, match=r"Process 0 was killed by SIGKILL \(often: out of memory\)"):
        train(with_resources(job, restarts=1), out=tmp_path / "out")


REFUSED = {
    "several machines": (lambda job: with_resources(job, nodes=2), "nodes is more than 1"),
    "data that changed": (lambda job: replace(job, data_fingerprint="sha256:0"), "has fingerprint"),
    "data that is not there": (lambda job: replace(job, data="/nowhere"), "holds no prepared data"),
    "code that is not there": (lambda job: replace(job, code="/nowhere.tar"), "no code archive"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_trained_is_refused_before_anything_is_written(job, tmp_path, case):
    change, told = case
    with pytest.raises(BadInput, match=told):
        train(change(job), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_code_that_was_changed_is_refused(job, tmp_path):
    code = tmp_path / "code.tar"
    code.write_bytes(Path(job.code).read_bytes() + b"x")
    with pytest.raises(Tampered):
        train(replace(job, code=str(code)), out=tmp_path / "out")


def test_all_sockets_of_a_training_are_on_the_loopback(job, start, tmp_path):
    """torchrun's own rendezvous listens on every interface."""
    running = start(with_train(job, epochs=1000), tmp_path)
    running.until_step(3)
    listening = [
        connection.laddr.ip
        for process in running.everyone()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_when_one_rank_dies_the_others_end_too(job, start, tmp_path):
    """A job hung in Restarting, a master ran on alone (kubeflow/trainer #2044, #1579)."""
    running = start(with_train(job, epochs=1000), tmp_path)
    running.until_step(3)
    os.kill(running.ranks()[0].pid, signal.SIGKILL)
    assert running.until_ended() == {"0": -9}


def test_when_the_agent_dies_its_ranks_end(job, start, tmp_path):
    running = start(with_train(job, epochs=1000), tmp_path)
    running.until_step(3)
    everyone = running.everyone()
    os.kill(running.pid, signal.SIGKILL)
    gone(everyone)


def test_the_last_checkpoints_are_kept_and_no_more(job, start, tmp_path):
    running = start(with_train(job, keep_checkpoints=3), tmp_path)
    assert running.until_ended() == {}
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert len(kept) == 3
    state = json.loads((tmp_path / "checkpoints" / kept[-1] / "state.json").read_text())
    assert (state["world"], state["threads"]) == (2, 1)


def test_stopped_in_the_middle_of_a_checkpoint_only_finished_ones_stay(job, tmp_path):
    half = tmp_path / "checkpoints" / ".step-0000000999.tmp" / "tensors"

    def stop(_message: str, _share: float | None) -> None:
        half.mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, out=tmp_path, progress=stop)
    assert list((tmp_path / "checkpoints").glob(".*")) == []
