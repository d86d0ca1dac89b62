"""Told to stop, as a spot node is before it is taken away."""

import os
import signal

import pytest
from tests.fakes.trainings import with_train
from tests.integration.training.running import finished

from modelyard.processes import wait_until

pytestmark = pytest.mark.process


def test_one_rank_that_is_told_to_stop_makes_all_save_and_the_next_start_goes_on_with_the_same_bits(
    job, start, tmp_path
):
    job = with_train(job, checkpoint_every=100_000, epochs=40)
    unbroken = start(job, tmp_path / "unbroken")
    assert unbroken.until_ended() == {}
    out = tmp_path / "stopped"
    running = start(job, out)
    told = out / "progress.jsonl"
    wait_until(lambda: told.exists() and '"event": "step"' in told.read_text(), deadline_s=120, what="a first step")
    os.kill(running.ranks()[1].pid, signal.SIGTERM)
    ended = running.until_ended()
    assert set(ended.values()) <= {143, -signal.SIGTERM}
    assert 143 in ended.values()
    (saved,) = (out / "checkpoints").glob("step-*")
    assert "Told to stop: the checkpoint of step" in (out / "train.log").read_text()
    assert start(job, out).until_ended() == {}
    assert '"event": "start"' in told.read_text()
    assert f'"step": {int(saved.name.split("-")[1])}' in told.read_text()
    assert finished(out)["digest"] == finished(tmp_path / "unbroken")["digest"]


def test_the_agent_passes_it_on_and_waits_for_the_checkpoint(job, start, tmp_path):
    running = start(with_train(job, checkpoint_every=100_000, epochs=1000), tmp_path)
    told = tmp_path / "progress.jsonl"
    wait_until(lambda: told.exists() and '"event": "step"' in told.read_text(), deadline_s=120, what="a first step")
    os.kill(running.pid, signal.SIGTERM)
    wait_until(lambda: not running.everyone(), deadline_s=60, what="the end")
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == 1
