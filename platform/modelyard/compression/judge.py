"""What runs in the processes of one variant: one builds it, another loads, evaluates and times it.

Each talks with the bench over a pipe and ends when the pipe closes; whatever goes wrong is answered as a reason.
"""

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
COMPARED_ROWS = 64


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


def in_own_process(task: Callable[[Connection, Job, str], None], pipe: Connection, job: Job, name: str) -> None:
    """Run a task as a worker; its exception becomes the reason that the bench reads."""
    die_with_parent()
    try:
        task(pipe, job, name)
    except Exception as error:
        traceback.print_exc()  # into the bench's log
        pipe.send(("failed", first_line(error), error if isinstance(error, ModelyardError) else None))


def build_task(pipe: Connection, job: Job, name: str) -> None:
    """Build a variant and answer its digest."""
    torch.set_num_threads(job.threads)
    model, data, work = Path(job.model), Path(job.data), Path(job.work)
    pipe.send(("built", build(name, model=model, data=data, threads=job.threads, work=work, out=job.folder(name))))


def judge_task(pipe: Connection, job: Job, name: str) -> None:
    """Load, warm up, evaluate; then time a block whenever asked: `(calls, calls)` → seconds of each call."""
    folder, data, work = job.folder(name), Path(job.data), Path(job.work)
    began = time.perf_counter()
    with Predictor.load(folder, work=work) as predictor:
        loaded = time.perf_counter()
        reader = SplitReader(data, SPLIT)
        wanted = max(job.batch_size, min(COMPARED_ROWS, len(reader)))
        rows = rows_of(reader.take([at % len(reader) for at in range(wanted)]))
        one, many = predictor.batch(rows[:1]), predictor.batch(rows[: job.batch_size])
        for batch in (one, many):
            _time(predictor, batch, WARM_UP_CALLS)
        pipe.send(
            (
                "judged",
                Judged(
                    load_s=loaded - began,
                    peak_memory_mb=_peak_memory_mb(),
                    lone_s=min(_time(predictor, one, 3)),
                    full_s=min(_time(predictor, many, 3)),
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
            _time(predictor, one, 2)  # the caches held another's data
            lone_s = _time(predictor, one, lone)
            _time(predictor, many, 1)
            pipe.send(("timed", lone_s, _time(predictor, many, full)))


def _time(predictor: Predictor, batch: Any, calls: int) -> list[float]:
    """Seconds of each call of the model itself; what is around it is the same for all variants."""
    seconds = []
    for _ in range(calls):
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
