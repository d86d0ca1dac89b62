"""Curves and system metrics to MLflow while a training runs. One of the two homes of `mlflow`.

A training never dies of its tracking, nor waits for it: a thread of the parent sends what it is handed, keeps what it
could not send, and tries again. What is unsent at the end stands in the progress file, from which the next call of
the stage sends it. mlflow is imported in that thread, while the ranks import torch.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelyard.spec.codec import to_data
from modelyard.storage.atomic import write_text
from modelyard.training.files import RUN
from modelyard.training.job import Tracking, TrainJob

RETRY_S = 1.0
FLUSH_S = 15.0
"""How long the end of a training waits for MLflow."""

Point = tuple[str, float, int, int]
"""Name, value, milliseconds since the epoch, step."""


class Curves:
    """Sends points to one run. `tracking` is asked for in the thread: MLflow may still be starting."""

    def __init__(self, tracking: Callable[[], Tracking | None], job: TrainJob, out: Path) -> None:
        self._tracking, self._job, self._out = tracking, job, out
        self._handed: queue.SimpleQueue[list[Point] | str] = queue.SimpleQueue()
        self._ended, self._give_up = threading.Event(), threading.Event()
        self.run_id: str | None = None
        self.error: str | None = None
        threading.Thread(target=self._work, name="curves", daemon=True).start()

    def epoch(self, event: Mapping[str, Any]) -> None:
        """Hand over an epoch's event of the progress file."""
        values = {"train_loss": event["train_loss"], "lr": event["lr"], "epoch_seconds": event["seconds"]}
        if event["validation_loss"] is not None:
            values["validation_loss"] = event["validation_loss"]
        values |= {f"validation_{name}": value for name, value in event["metrics"].items()}
        at = int(event["at"] * 1000)
        self._handed.put([(name, float(value), at, event["epoch"]) for name, value in values.items()])

    def system(self, values: Mapping[str, float], step: int) -> None:
        """Hand over a sample of the machine."""
        at = int(time.time() * 1000)
        self._handed.put([(f"system/{name}", value, at, step) for name, value in values.items()])

    def end(self, status: str, *, wait_s: float | None = None) -> None:
        """Send what is left and end the run (FINISHED, FAILED, KILLED); `error` then says why something is unsent."""
        wait_s = FLUSH_S if wait_s is None else wait_s
        self._handed.put(status)
        if not self._ended.wait(wait_s):
            self._give_up.set()
            self.error = f"MLflow did not take the curves: {self.error or f'no answer within {wait_s:g} s'}"

    def _work(self) -> None:
        points: list[Point] = []
        status: str | None = None
        run: _Run | None = None
        while not self._give_up.is_set():
            if status is None:
                status = self._take(points)
            try:
                run = run or self._begin()
                if run is None:
                    break
                self.run_id = run.id
                run.send(points)
                points.clear()
                self.error = None
                if status is not None:
                    run.end(status)
                    break
            except Exception as error:  # whatever MLflow and its transport raise, training goes on
                self.error = f"{type(error).__name__}: {error}".splitlines()[0]
                self._give_up.wait(RETRY_S)
        self._ended.set()

    def _take(self, points: list[Point]) -> str | None:
        """Move what was handed over to `points`; waits for it only while nothing is left to send.

        Returns:
            How the run ended, once that was handed over.
        """
        while True:
            try:
                handed = self._handed.get(block=not points)
            except queue.Empty:
                return None
            if isinstance(handed, str):
                return handed
            points += handed

    def _begin(self) -> "_Run | None":
        tracking = self._tracking()
        return None if tracking is None else _Run(tracking, self._job, self._out)


class _Run:
    """A run of MLflow: the given one, the one this folder began, or a new one."""

    def __init__(self, tracking: Tracking, job: TrainJob, out: Path) -> None:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # its lines tear a progress bar apart
        from mlflow import MlflowClient  # noqa: PLC0415  (its import takes seconds)

        self._client = MlflowClient(tracking.uri)
        self._given = tracking.run_id is not None
        file = out / RUN
        known = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        if tracking.run_id:
            self.id = tracking.run_id
        elif known.get("uri") == tracking.uri:
            self.id = known["run"]
            self._client.update_run(self.id, status="RUNNING")
        else:
            self.id = self._new(tracking, job)
            write_text(file, json.dumps({"uri": tracking.uri, "run": self.id}))
        self._sent = self._last_epoch()

    def _new(self, tracking: Tracking, job: TrainJob) -> str:
        tags = {
            "modelyard.data": job.data_fingerprint, "modelyard.code": job.code_digest,
            "modelyard.recipe": job.train.recipe.use,
        }  # fmt: skip
        run = self._client.create_run(self._experiment(tracking.experiment), run_name=tracking.run_name, tags=tags)
        from mlflow.entities import Param  # noqa: PLC0415

        params = [Param(name, str(value)[:6000]) for name, value in _flat("", to_data(job.train))]
        self._client.log_batch(run.info.run_id, params=params[:100])
        return str(run.info.run_id)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another one made it a moment ago
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _last_epoch(self) -> int:
        """The last epoch this run has: a resumed training tells the same epochs again."""
        return max((point.step for point in self._client.get_metric_history(self.id, "train_loss")), default=0)

    def send(self, points: list[Point]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        new = [Metric(*point) for point in points if point[0].startswith("system/") or point[3] > self._sent]
        for first in range(0, len(new), 500):
            self._client.log_batch(self.id, metrics=new[first : first + 500])
        self._sent = max([self._sent, *(point[3] for point in points if not point[0].startswith("system/"))])

    def end(self, status: str) -> None:
        if not self._given:
            self._client.set_terminated(self.id, status)


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    """Nested settings as MLflow's flat parameters: `optimizer.lr`."""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _flat(f"{prefix}.{key}" if prefix else key, item)]
    return [(prefix, value)]
