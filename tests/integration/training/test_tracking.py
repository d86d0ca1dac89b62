"""Curves in a real MLflow."""

import pytest

from modelyard.processes import free_port
from modelyard.training import curves as module
from modelyard.training.curves import Curves
from modelyard.training.job import Tracking

pytestmark = [pytest.mark.process, pytest.mark.slow]


def epoch(number: int, at: float) -> dict:
    return {
        "event": "epoch", "at": at, "epoch": number, "train_loss": 1.0 / number, "validation_loss": None,
        "metrics": {"accuracy": 0.1 * number}, "lr": 0.1, "seconds": 2.0,
    }  # fmt: skip


def test_a_resumed_training_goes_on_in_its_run_and_writes_no_epoch_twice(job, tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracking = Tracking(uri=uri, experiment="digits", run_name="first")
    first = Curves(lambda: tracking, job, tmp_path)
    for number in (1, 2):
        first.epoch(epoch(number, 100.0 + number))
    first.end("KILLED", wait_s=120)
    assert first.error is None
    again = Curves(lambda: tracking, job, tmp_path)
    for number in (1, 2, 3):
        again.epoch(epoch(number, 200.0 + number))
    again.system({"cpu_utilization_percentage": 12.0}, step=1)
    again.end("FINISHED", wait_s=60)
    assert again.run_id == first.run_id
    client = MlflowClient(uri)
    run = client.get_run(again.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.name"] == "adamw"
    assert run.data.tags["modelyard.data"] == job.data_fingerprint
    assert [point.step for point in client.get_metric_history(again.run_id, "train_loss")] == [1, 2, 3]
    assert run.data.metrics["system/cpu_utilization_percentage"] == 12.0


def test_a_training_whose_mlflow_is_not_there_ends_well_and_says_so(job, tmp_path, monkeypatch):
    from modelyard.training.train import train

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(module, "FLUSH_S", 1.0)
    away = Tracking(uri=f"http://127.0.0.1:{free_port()}", experiment="digits")
    trained = train(job, out=tmp_path / "out", tracking=lambda: away)
    assert trained.untracked
    assert len(trained.epochs) == 2
    monkeypatch.setattr(module, "FLUSH_S", 120.0)
    back = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="digits")
    again = train(job, out=tmp_path / "out", tracking=lambda: back)
    assert again.untracked is None
    assert again.run_id
    assert again.digest == trained.digest
