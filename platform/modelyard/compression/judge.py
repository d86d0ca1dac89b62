"""What runs in the processes of one variant: one builds it, another loads, evaluates and times it.

Each talks with the bench over a pipe and ends when the pipe closes; whatever goes wrong is answered as a reason.
"""

import math
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelyard.compression.build import build, rows_of
from modelyard.compression.job import Job
from modelyard.compression.search import Candidate
from modelyard.compression.variants.source import first_line
from modelyard.data.shards import SplitReader
from modelyard.errors import ModelyardError
from modelyard.evaluation.evaluate import evaluate
from modelyard.evaluation.report import EvaluationReport
from modelyard.model.predictor import Predictor
from modelyard.processes import die_with_parent
from modelyard.record import record

SPLIT = "validation"
WARM_UP_CALLS = 5
WARM_UP_S = 0.5
"""Large models are warm after fewer calls."""
COMPARED_ROWS = 64
TRAINING_SHARE = 0.25
"""Of the time budget, for a variant that trains a little."""


@record
class Judged:
    """What a variant's own process found before it is timed."""

    load_s: float
    peak_memory_mb: float
    lone_s: float
    """Seconds of one warm call with one example."""
    full_s: float
    """Seconds of one warm call with a full batch."""
    outputs: tuple[float, ...]
    """Of the first examples, flat; empty where the model gives no tensor."""
    report: EvaluationReport


Task = Callable[[Connection, Job, Candidate], None]


def in_own_process(task: Task, pipe: Connection, job: Job, candidate: Candidate) -> None:
    """Run a task as a worker; its exception becomes the reason that the bench reads."""
    die_with_parent()
    try:
        task(pipe, job, candidate)
    except Exception as error:
        traceback.print_exc()  # into the bench's log
        pipe.send(("failed", first_line(error), error if isinstance(error, ModelyardError) else None))


def build_task(pipe: Connection, job: Job, candidate: Candidate) -> None:
    """Build a variant and answer its digest."""
    torch.set_num_threads(job.threads)
    built = build(
        candidate,
        model=Path(job.model),
        data=Path(job.data),
        threads=job.threads,
        work=Path(job.work),
        out=job.folder(candidate.name),
        student=job.spec.student,
        training_s=job.spec.time_budget.seconds * TRAINING_SHARE,
    )
    pipe.send(("built", built))


def judge_task(pipe: Connection, job: Job, candidate: Candidate) -> None:
    """Load, warm up, evaluate; then time a block whenever asked: `(calls, calls)` → seconds of each call."""
    folder, data, work = job.folder(candidate.name), Path(job.data), Path(job.work)
    began = time.perf_counter()
    with Predictor.load(folder, work=work) as predictor:
        loaded = time.perf_counter()
        reader = SplitReader(data, SPLIT)
        wanted = max(job.batch_size, min(COMPARED_ROWS, len(reader)))
        rows = rows_of(reader.take([at % len(reader) for at in range(wanted)]))
        one, many = predictor.batch(rows[:1]), predictor.batch(rows[: job.batch_size])
        for batch in (one, many):
            _time(predictor, batch, WARM_UP_CALLS, most_s=WARM_UP_S)
        pipe.send(
            (
                "judged",
                Judged(
                    load_s=loaded - began,
                    peak_memory_mb=_peak_memory_mb(),
                    lone_s=min(_time(predictor, one, 3, most_s=WARM_UP_S)),
                    full_s=min(_time(predictor, many, 3, most_s=WARM_UP_S)),
                    outputs=_flat(predictor.outputs(rows)),
                    report=evaluate(folder, data, SPLIT, declared=job.declared, work=work, out=None),
                ),
            )
        )
        while True:
            try:
                lone, full = pipe.recv()
            except EOFError:
                return
            _time(predictor, one, min(2, lone))  # the caches held another's data
            lone_s = _time(predictor, one, lone)
            _time(predictor, many, 1 if full > 1 else 0)
            pipe.send(("timed", lone_s, _time(predictor, many, full)))


def _time(predictor: Predictor, batch: Any, calls: int, *, most_s: float = math.inf) -> list[float]:
    """Seconds of each call of the model itself; what is around it is the same for all variants."""
    seconds: list[float] = []
    while len(seconds) < calls and sum(seconds) < most_s:
        began = time.perf_counter()
        predictor.forward(batch)
        seconds.append(time.perf_counter() - began)
    return seconds


def _flat(outputs: Any) -> tuple[float, ...]:
    if not isinstance(outputs, torch.Tensor):
        return ()
    return tuple(np.asarray(outputs.detach().float()).ravel().tolist())


def _peak_memory_mb() -> float:
    """The most memory that this process had at once, in MB of 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
