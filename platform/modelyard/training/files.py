"""What lies in a training's folder while it runs. Nothing here imports torch: the parent stays small and quick."""

import shutil
from pathlib import Path

from modelyard.record import record
from modelyard.spec.codec import to_data, to_json
from modelyard.storage.atomic import digest_bytes
from modelyard.training.job import TrainJob

JOB = "job.json"
PROGRESS = "progress.jsonl"
LOG = "train.log"
EXITS = "exits.json"
FINISHED = "finished.json"
"""The processes' part of `TrainedModel`."""
RUN = "run.json"
FAILURES = "failure-*.json"
UNFINISHED = ".step-*.tmp"
"""A checkpoint until all of it is written."""


@record
class _Decisive:
    """What decides the weights, but for the number of processes and threads."""

    train: dict[str, object]
    data: str
    code: str
    weights: str


def identity(job: TrainJob) -> str:
    """A digest of what decides the weights, but for the number of processes and threads, which checkpoints record."""
    free = ("keepCheckpoints", "checkpointEvery", "asyncCheckpoints", "resources")
    train = {name: value for name, value in to_data(job.train).items() if name not in free}
    weights = (job.weights.digest or job.weights.path) if job.weights else ""
    decisive = _Decisive(train=train, data=job.data_fingerprint, code=job.code_digest, weights=weights)
    return digest_bytes(to_json(decisive).encode())


def remove_unfinished(checkpoints: Path) -> None:
    """Remove checkpoints that were never finished. Only where no process writes there any more."""
    for left_over in checkpoints.glob(UNFINISHED):
        shutil.rmtree(left_over)
