"""The process in which variants are built, judged and timed: `python -m modelyard.compression.bench job.json`.

It imports torch once, starts no thread, and forks two processes for each variant: one that builds it, and one that
loads, evaluates and times it. So a variant that crashes, leaks or sets flags hurts nobody, none waits for the
import of torch, and the caller (a notebook, a command with a progress bar) is never forked, having threads.
"""

import importlib
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.compression.job import Job
from modelyard.compression.judge import Task, build_task, in_own_process, judge_task
from modelyard.compression.measure import Times, calls_for
from modelyard.compression.report import REFERENCE, CompressionReport
from modelyard.compression.results import drop_of, ratio_of, report_of
from modelyard.compression.search import RUNGS, Candidate, fitting, follow_ups, survivors
from modelyard.compression.variants import VARIANTS
from modelyard.compression.workers import BUILD_SHARE, Bench, Worker
from modelyard.errors import ModelyardError, StageFailed
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import write_text

BLOCK_S = 0.008
"""Length of one variant's turn in a round, of each kind of call."""
PATIENCE_S = 60.0
"""How long a block may take beyond what it should, until its process counts as hung."""


SHARED_IMPORTS = ("onnx", "torch.onnx", "torch.onnx._internal.torchscript_exporter.utils")
"""Imported before the first fork, so that no builder waits for them. Not onnxruntime: it starts a thread."""


def main() -> int:
    """Do the job; its report or its error is written beside it."""
    for module in SHARED_IMPORTS:
        importlib.import_module(module)
    path = Path(sys.argv[1])
    job = from_json(Job, path.read_bytes(), where=str(path))
    with (path.parent / "progress").open("a", buffering=1) as lines:
        try:
            report = run(job, lambda told, share: print(json.dumps([told, share]), file=lines))
        except ModelyardError as error:
            known = {"type": type(error).__name__, "what": error.what, "do": error.do}
            write_text(path.parent / "error.json", json.dumps(known))
            return 1
    write_text(path.parent / "report.json", to_json(report))
    return 0


def run(job: Job, say: Callable[[str, float], None]) -> CompressionReport:
    """Build, judge and time all variants, and choose.

    Raises:
        StageFailed: the reference itself cannot be evaluated or timed.
        BadInput: the budget names a metric that the evaluation does not know.
    """
    bench = Bench(job, say)
    with _all_stopped(bench):
        _prepare(bench)
        times = _time(bench)
    return report_of(bench, times)


@contextmanager
def _all_stopped(bench: Bench) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in bench.workers:
            worker.process.kill()
        for worker in bench.workers:
            worker.process.join()


def _start(bench: Bench, candidate: Candidate, task: Task) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=in_own_process, args=(task, theirs, bench.job, candidate), name=candidate.name
    )
    process.start()
    theirs.close()
    bench.active[ours] = Worker(candidate, process, ours)


def _prepare(bench: Bench) -> None:
    """Build and judge all variants, and what follows from them, as many at once as there are cores for."""
    job = bench.job
    waiting = [Candidate(variant=name) for name in (REFERENCE, *job.names)]
    bench.tried.update({one.name: one for one in waiting})
    slots = max(1, len(os.sched_getaffinity(0)) // job.threads)
    give_up_at = job.began + job.spec.time_budget.seconds * BUILD_SHARE
    while waiting or bench.active:
        while waiting and len(bench.active) < slots:
            _start(bench, waiting.pop(0), build_task)
        left = give_up_at - time.monotonic()
        for pipe in connection.wait(list(bench.active), timeout=min(1.0, max(0.05, left))):
            assert isinstance(pipe, connection.Connection)
            worker = bench.active.pop(pipe)
            answer = _answer(worker)
            if answer[0] == "built":
                worker.stop()
                _start(bench, worker.candidate, judge_task)
            elif answer[0] == "judged":
                bench.ready[worker.name] = (worker, answer[1])
                bench.say(f"{worker.name} is built and evaluated", bench.share)
                waiting += _follow_ups(bench, worker.candidate)
            else:
                _fail(bench, worker, answer)
            if worker.name == REFERENCE and REFERENCE in bench.ready:
                _check_metrics(bench)
        if left <= 0:
            late = [worker for worker in bench.active.values() if worker.name != REFERENCE]
            reason = f"not built and evaluated within {BUILD_SHARE:.0%} of the time budget of {job.spec.time_budget}"
            for worker in late:
                del bench.active[worker.pipe]
                worker.process.kill()
                worker.stop()
            for name in [worker.name for worker in late] + [one.name for one in waiting if one.name != REFERENCE]:
                bench.failures[name] = reason
            waiting = [one for one in waiting if one.name == REFERENCE]


def _follow_ups(bench: Bench, candidate: Candidate) -> list[Candidate]:
    """Other settings of a variant that was judged, where it is as fast as the best within the budget so far."""
    if candidate.variant == REFERENCE or REFERENCE not in bench.ready:
        return []
    dropped = {name: drop_of(bench, name) for name in bench.ready}
    allowed = bench.job.spec.max_drop
    within = [
        judged.lone_s
        for name, (_, judged) in bench.ready.items()
        if all(dropped[name][metric].high <= allowed[metric] for metric in allowed)
    ]
    found = follow_ups(
        candidate,
        tunes=VARIANTS[candidate.variant].tunes,
        drop=dropped[candidate.name],
        least=dropped[REFERENCE],
        allowed=allowed,
        seconds=bench.ready[candidate.name][1].lone_s,
        best=min(within, default=math.inf),
    )
    new = [one for one in found if one.name not in bench.tried]
    bench.tried.update({one.name: one for one in new})
    return new


def _answer(worker: Worker) -> tuple[Any, ...]:
    try:
        answer: tuple[Any, ...] = worker.pipe.recv()
    except (EOFError, OSError):
        return ("failed", worker.stop(), None)
    return answer


def _fail(bench: Bench, worker: Worker, answer: tuple[Any, ...]) -> None:
    """Record why a variant failed. Without the reference there is nothing to compare with: that ends the stage."""
    _, reason, error = answer
    if not worker.pipe.closed:
        worker.stop()
    if worker.name == REFERENCE:
        if isinstance(error, ModelyardError):
            raise error
        raise StageFailed(f"The uncompressed model cannot be evaluated: {reason}", do="see the stage evaluate")
    bench.failures[worker.name] = reason
    bench.say(f"{worker.name} failed: {reason}", bench.share)


def _check_metrics(bench: Bench) -> None:
    """Let a metric of the budget that nobody can measure end the stage before any time is spent."""
    drop_of(bench, REFERENCE)


def _time(bench: Bench) -> Mapping[str, tuple[Times, Times]]:
    """Rounds in which each variant has its turn, in another order each time; the slower half leaves after each rung."""
    job = bench.job
    until = job.began + job.spec.time_budget.seconds
    calls = {
        name: (calls_for(judged.lone_s, BLOCK_S), calls_for(judged.full_s, BLOCK_S))
        for name, (_, judged) in bench.ready.items()
    }
    times: dict[str, tuple[list[list[float]], list[list[float]]]] = {name: ([], []) for name in bench.ready}
    racing = _those_that_fit(bench, {name: _turn_s(bench, name, *calls[name]) for name in calls}, until)
    number = 0
    for rung in RUNGS:
        while number < rung and (time.monotonic() < until or number == 0):
            names = [name for name in racing if name in bench.ready]
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                worker, _ = bench.ready[name]
                worker.pipe.send(calls[name])
                if worker.pipe.poll(10 * _turn_s(bench, name, *calls[name]) + PATIENCE_S):
                    answer = _answer(worker)
                else:
                    answer = ("failed", "its process hung while it was timed", None)
                    worker.process.kill()
                if answer[0] == "failed":
                    del bench.ready[name], times[name]
                    _fail(bench, worker, answer)
                else:
                    times[name][0].append(answer[1])
                    times[name][1].append(answer[2])
            number += 1
        racing = _next_rung(bench, {name: times[name] for name in racing if name in times})
        bench.say(
            f"timed in {number} rounds, {_many(len(racing) - 1)} left",
            BUILD_SHARE + (1 - BUILD_SHARE) * number / RUNGS[-1],
        )
        if racing == (REFERENCE,):
            break
    return {name: (np.array(lone), np.array(full)) for name, (lone, full) in times.items()}


def _many(count: int) -> str:
    return f"{count} variant{'' if count == 1 else 's'}"


def _turn_s(bench: Bench, name: str, lone: int, full: int) -> float:
    """Seconds that one turn of a variant should take, its warming up included."""
    judged = bench.ready[name][1]
    return (lone + min(2, lone)) * judged.lone_s + (full + (full > 1)) * judged.full_s


def _those_that_fit(bench: Bench, turn_s: Mapping[str, float], until: float) -> tuple[str, ...]:
    """The reference and the fastest variants, as many as the least rounds have time for."""
    rounds = RUNGS[0]
    left = until - time.monotonic() - rounds * turn_s[REFERENCE]
    others = {name: rounds * seconds for name, seconds in turn_s.items() if name != REFERENCE}
    taken = fitting(others, left) if others else ()
    for name in set(others) - set(taken):
        worker, _ = bench.ready.pop(name)
        worker.process.kill()
        _fail(bench, worker, ("failed", f"not timed within the time budget of {bench.job.spec.time_budget}", None))
    return (REFERENCE, *taken)


def _next_rung(bench: Bench, times: Mapping[str, tuple[list[list[float]], list[list[float]]]]) -> tuple[str, ...]:
    spec = bench.job.spec
    arrays = {name: (np.array(lone), np.array(full)) for name, (lone, full) in times.items()}
    others = [name for name in arrays if name != REFERENCE]
    costs = {name: ratio_of(bench, name, arrays) for name in others}
    drop = {name: drop_of(bench, name) for name in others}
    allowed = spec.max_drop
    promising = {name: all(drop[name][metric].high <= allowed[metric] for metric in allowed) for name in others}
    return (REFERENCE, *survivors(costs, promising))


if __name__ == "__main__":
    sys.exit(main())
