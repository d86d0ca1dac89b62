"""Curves on their way to MLflow, which may be slow, away, or gone in mid-run."""

import threading
from pathlib import Path

import pytest
from tests.fakes.trainings import job_of

from modelyard.processes import wait_until
from modelyard.training import curves as module
from modelyard.training.curves import Curves
from modelyard.training.job import Tracking


class FakeRun:
    """A run that can be away; it keeps what reached it."""

    def __init__(self) -> None:
        self.id = "run-1"
        self.points, self.ended, self.away, self.tries = [], None, False, 0

    def _answer(self) -> None:
        self.tries += 1
        if self.away:
            raise ConnectionError("connection refused")

    def send(self, points) -> None:
        self._answer()
        self.points += points

    def end(self, status: str) -> None:
        self._answer()
        self.ended = status


@pytest.fixture
def run(monkeypatch):
    fake = FakeRun()

    def begin(*_arguments):
        fake._answer()
        return fake

    monkeypatch.setattr(module, "_Run", begin)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    return fake


@pytest.fixture
def curves(run, data, tmp_path: Path):
    return Curves(lambda: Tracking(uri="http://nowhere", experiment="e"), job_of(data, tmp_path), tmp_path)


def epoch(number: int) -> dict:
    return {
        "event": "epoch", "at": 12.5, "epoch": number, "train_loss": 1.0, "validation_loss": 0.5,
        "metrics": {"accuracy": 0.9}, "lr": 0.1, "seconds": 2.0,
    }  # fmt: skip


def test_epochs_and_the_machine_reach_the_run_and_it_is_ended(curves, run):
    curves.epoch(epoch(1))
    curves.system({"cpu_utilization_percentage": 50.0}, step=1)
    curves.end("FINISHED")
    assert ("validation_accuracy", 0.9, 12500, 1) in run.points
    assert ("train_loss", 1.0, 12500, 1) in run.points
    assert [point[0] for point in run.points if point[0].startswith("system/")] == ["system/cpu_utilization_percentage"]
    assert (run.ended, curves.error, curves.run_id) == ("FINISHED", None, "run-1")


def test_what_mlflow_did_not_take_is_sent_when_it_is_back(curves, run):
    curves.epoch(epoch(1))
    wait_until(lambda: run.points, deadline_s=5, what="the first epoch")
    run.away = True
    curves.epoch(epoch(2))
    before = run.tries
    wait_until(lambda: run.tries > before + 2, deadline_s=5, what="some tries")
    run.away = False
    curves.epoch(epoch(3))
    curves.end("FINISHED")
    assert sorted({point[3] for point in run.points}) == [1, 2, 3]
    assert curves.error is None


def test_a_training_ends_though_mlflow_is_gone_and_says_so(curves, run):
    run.away = True
    curves.epoch(epoch(1))
    curves.end("FINISHED", wait_s=0.2)
    assert "did not take the curves: ConnectionError: connection refused" in curves.error
    assert run.points == []


def test_an_mlflow_that_never_answers_is_not_waited_for_long(curves, run, monkeypatch):
    stuck = threading.Event()
    monkeypatch.setattr(run, "send", lambda _points: stuck.wait(30))
    curves.epoch(epoch(1))
    curves.end("FINISHED", wait_s=0.2)
    assert "no answer within 0.2 s" in curves.error
    stuck.set()


def test_without_tracking_nothing_is_sent(run, data, tmp_path):
    curves = Curves(lambda: None, job_of(data, tmp_path), tmp_path)
    curves.epoch(epoch(1))
    curves.end("FINISHED")
    assert (curves.run_id, curves.error, run.tries) == (None, None, 0)
