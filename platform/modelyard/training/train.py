"""The stage `train`: starts the ranks, watches them, goes on from the last checkpoint when they were killed."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from modelyard import errors
from modelyard.data.prepared import load_prepared
from modelyard.errors import BadInput, ModelyardError, StageFailed, Tampered
from modelyard.processes import spawn
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import digest_file, explained, write_text
from modelyard.storage.code import unpack
from modelyard.training.curves import Curves
from modelyard.training.failures import Ending, Fate, Report, ending
from modelyard.training.files import (
    EXITS,
    FAILURES,
    FINISHED,
    JOB,
    LOG,
    PROGRESS,
    identity,
    remove_unfinished,
)
from modelyard.training.job import CHECKPOINTS, TRAINED, WEIGHTS, Tracking, TrainedModel, TrainJob
from modelyard.training.progress import Follower
from modelyard.training.watch import Watcher, memory_kills

Progress = Callable[[str, float | None], None]


def train(
    job: TrainJob,
    *,
    out: Path,
    progress: Progress | None = None,
    tracking: Callable[[], Tracking | None] | None = None,
) -> TrainedModel:
    """Train a model; called again after any end, it goes on from the last checkpoint, or gives what is there.

    Args:
        job: what to train.
        out: folder for checkpoints, weights, the model folder and the log.
        progress: is told a message and how much is done (0 to 1).
        tracking: asked for in the background instead of `job.tracking`, where MLflow may still be starting.

    Raises:
        BadInput: the job, the recipe or the data cannot be used.
        StageFailed: the loss became NaN, or processes were killed more often than `train.resources.restarts`.
        Tampered: code, weights or checkpoints differ from their digests.
    """
    say = progress or (lambda _message, _fraction: None)
    _check(job)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    if (done := kept(job, out)) and done.untracked is None:
        return done
    code = unpack(Path(job.code), job.code_digest, out / "code")
    write_text(out / JOB, to_json(job))
    curves = Curves(tracking or (lambda: job.tracking), job, out)
    status = "KILLED"
    try:
        restarts = 0 if done else _run(job, out, code, curves, say)
        status = "FINISHED"
    except ModelyardError:
        status = "FAILED"
        raise
    finally:
        if status != "FINISHED":
            curves.end(status, wait_s=3.0)
    if done:
        for event in Follower(out / PROGRESS).new():
            if event["event"] == "epoch":
                curves.epoch(event)
        restarts = done.restarts
    curves.end(status)
    return write_trained(finished(out), out, curves, restarts=restarts)


def _run(job: TrainJob, out: Path, code: Path, curves: Curves, say: Progress) -> int:
    """Run attempts until one ends well; gives how many restarts that took."""
    allowed = job.train.resources.restarts
    for restarts in range(allowed + 1):
        end = _attempt(job, out, code, curves, say)
        if end.fate is Fate.DONE:
            return restarts
        if end.fate is Fate.PERMANENT or restarts == allowed:
            raise _error(end)
        say(f"{end.what}: going on from the last checkpoint", None)
    raise AssertionError


def _attempt(job: TrainJob, out: Path, code: Path, curves: Curves, say: Progress) -> Ending:
    for old in (*out.glob(FAILURES), out / EXITS):
        old.unlink(missing_ok=True)
    resources, log = job.train.resources, out / LOG
    follower = Follower(out / PROGRESS)
    follower.new()  # of earlier attempts
    killed_before = memory_kills()
    argv = [sys.executable, "-m", "modelyard.training.launch"]
    child = spawn([*argv, out / JOB, out, code, str(resources.processes_per_node)], env=_environment(job), log=log)
    try:
        watcher = Watcher(child, stall_s=resources.stall_timeout.seconds, epochs=job.train.epochs)
        while child.alive():
            watcher.look(follower.new(), curves, say)
            time.sleep(0.05)
        watcher.look(follower.new(), curves, say)
    finally:
        agent = child.stop(grace=2.0)
        with contextlib.suppress(OSError):  # a rank that was killed may still be closing its file
            remove_unfinished(out / CHECKPOINTS)
    exits = json.loads((out / EXITS).read_text()) if (out / EXITS).is_file() else {}
    reports = [from_json(Report, path.read_bytes(), where=str(path)) for path in sorted(out.glob(FAILURES))]
    return ending(
        agent, {int(rank): code for rank, code in exits.items()}, reports,
        out_of_memory=memory_kills() > killed_before, log=str(log),
    )  # fmt: skip


def _environment(job: TrainJob) -> dict[str, str]:
    threads = str(job.train.resources.threads_per_process)
    return {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}


def _check(job: TrainJob) -> None:
    """Refuse what needs no torch to be refused.

    Raises:
        BadInput: see the message.
    """
    if job.train.resources.nodes != 1:
        raise BadInput("train.resources.nodes is more than 1 on one machine", do="train on a cluster, or set it to 1")
    initial = job.train.initialize
    if initial and initial.from_.startswith("models:/") and job.weights is None:
        raise BadInput(f"train.initialize.from: {initial.from_} was not fetched", do="name a path, or run the project")
    found = load_prepared(Path(job.data)).fingerprint
    if found != job.data_fingerprint:
        raise BadInput(f"{job.data} has fingerprint {found}, not {job.data_fingerprint}", do="prepare the data again")
    if not Path(job.code).is_file():
        raise BadInput(f"There is no code archive {job.code}", do="pack the code again")


def kept(job: TrainJob, out: Path) -> TrainedModel | None:
    """What an earlier call finished here.

    Raises:
        BadInput: another training lies here.
        Tampered: its weights are not what was written.
    """
    if (out / JOB).is_file():
        there = from_json(TrainJob, (out / JOB).read_bytes(), where=str(out / JOB))
        if identity(there) != identity(job):
            raise BadInput(f"{out} holds another training", do="remove it or name another folder")
    if not (out / TRAINED).is_file():
        return None
    done = from_json(TrainedModel, (out / TRAINED).read_bytes(), where=str(out / TRAINED))
    if not (out / WEIGHTS).is_file() or digest_file(out / WEIGHTS) != done.digest:
        raise Tampered(f"{out / WEIGHTS} is not what training wrote", do=f"remove {out} and train again")
    return done


def finished(out: Path) -> TrainedModel:
    """What the ranks wrote when they were done."""
    return from_json(TrainedModel, (out / FINISHED).read_bytes(), where=str(out / FINISHED))


def write_trained(done: TrainedModel, out: Path, curves: Curves, *, restarts: int) -> TrainedModel:
    """The result as it is kept: with where its curves are, and how often it was started again."""
    trained = replace(done, run_id=curves.run_id, untracked=curves.error, restarts=restarts)
    write_text(out / TRAINED, to_json(trained))
    return trained


def _error(end: Ending) -> ModelyardError:
    kind = getattr(errors, end.kind, BadInput if end.kind in ("RecipeError", "FolderError") else StageFailed)
    made: ModelyardError = kind(end.what, do=end.do)
    return made
