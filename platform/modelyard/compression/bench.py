"""The process in which variants are built, judged and timed: `python -m modelyard.compression.bench job.json`.

It imports torch once, starts no thread, and forks two processes for each variant: one that builds it, and one that
loads, evaluates and times it. So a variant that crashes, leaks or sets flags hurts nobody, none waits for the
import of torch, and the caller (a notebook, a command with a progress bar) is never forked, having threads.
"""

import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.compression.choose import choose
from modelyard.compression.drop import drops
from modelyard.compression.job import Job
from modelyard.compression.judge import Judged, build_task, in_own_process, judge_task
from modelyard.compression.measure import Times, calls_for, cosine, node_type, ratio, summarize
from modelyard.compression.report import REFERENCE, CompressionReport, Estimate, VariantResult
from modelyard.compression.variants import VARIANTS
from modelyard.errors import ModelyardError, StageFailed
from modelyard.model.predictor import digest_of, verify
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import write_text

BUILD_SHARE = 0.7
"""Of the time budget: what is not built and evaluated by then is given up, so that time to measure is left."""
ROUNDS = 24
LEAST_ROUNDS = 8
BLOCK_S = 0.008
"""Length of one variant's turn in a round, of each kind of call."""
PATIENCE_S = 60.0
"""How long a block may take beyond what it should, until its process counts as hung."""


SHARED_IMPORTS = ("onnx", "torch.onnx", "torch.onnx._internal.torchscript_exporter.utils")
"""Imported before the first fork, so that no builder waits for them. Not onnxruntime: it starts a thread."""


@dataclass
class Worker:
    """One process of a variant, and our end of its pipe."""

    name: str
    process: Any
    pipe: connection.Connection

    def stop(self) -> str:
        """End it; gives how it had ended before, if it had."""
        self.process.join(0.2)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        self.pipe.close()
        return "its process crashed" + ("" if code is None else f" (signal {-code})" if code < 0 else f" (exit {code})")


@dataclass
class Bench:
    """What goes on: who waits, who works, who is ready to be timed, who failed and why."""

    job: Job
    say: Callable[[str, float], None]
    active: dict[connection.Connection, Worker] = field(default_factory=dict)
    ready: dict[str, tuple[Worker, Judged]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of the work: the rest is timing."""
        return BUILD_SHARE * (len(self.ready) + len(self.failures)) / (1 + len(self.job.names))

    @property
    def workers(self) -> Iterator[Worker]:
        """All that live."""
        yield from list(self.active.values())
        yield from [worker for worker, _ in self.ready.values()]


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
    return _report(bench, times)


@contextmanager
def _all_stopped(bench: Bench) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in bench.workers:
            worker.process.kill()
        for worker in bench.workers:
            worker.process.join()


def _start(bench: Bench, name: str, task: Callable[[connection.Connection, Job, str], None]) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=in_own_process, args=(task, theirs, bench.job, name), name=name
    )
    process.start()
    theirs.close()
    bench.active[ours] = Worker(name, process, ours)


def _prepare(bench: Bench) -> None:
    """Build and judge all variants, as many at once as there are cores for."""
    job = bench.job
    waiting = [REFERENCE, *job.names]
    slots = max(1, len(os.sched_getaffinity(0)) // job.threads)
    give_up_at = job.began + job.spec.time_budget.seconds * BUILD_SHARE
    while waiting or bench.active:
        while waiting and len(bench.active) < slots:
            name = waiting.pop(0)
            _start(bench, name, build_task)
        left = give_up_at - time.monotonic()
        for pipe in connection.wait(list(bench.active), timeout=min(1.0, max(0.05, left))):
            assert isinstance(pipe, connection.Connection)
            worker = bench.active.pop(pipe)
            answer = _answer(worker)
            if answer[0] == "built":
                worker.stop()
                _start(bench, worker.name, judge_task)
            elif answer[0] == "judged":
                bench.ready[worker.name] = (worker, answer[1])
                bench.say(f"{worker.name} is built and evaluated", bench.share)
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
            for name in [worker.name for worker in late] + [name for name in waiting if name != REFERENCE]:
                bench.failures[name] = reason
            waiting = [name for name in waiting if name == REFERENCE]


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
    report, spec = bench.ready[REFERENCE][1].report, bench.job.spec
    drops(report, report, tuple(spec.max_drop), confidence=spec.confidence)


def _time(bench: Bench) -> Mapping[str, tuple[Times, Times]]:
    """Rounds in which each variant has its turn, in another order each time."""
    job = bench.job
    until = job.began + job.spec.time_budget.seconds
    lone_calls = calls_for({name: judged.lone_s for name, (_, judged) in bench.ready.items()}, BLOCK_S)
    full_calls = calls_for({name: judged.full_s for name, (_, judged) in bench.ready.items()}, BLOCK_S)
    times: dict[str, tuple[list[list[float]], list[list[float]]]] = {name: ([], []) for name in bench.ready}
    for number in range(ROUNDS):
        if number >= LEAST_ROUNDS and time.monotonic() > until:
            break
        names = list(bench.ready)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            worker, judged = bench.ready[name]
            worker.pipe.send((lone_calls[name], full_calls[name]))
            expected = lone_calls[name] * judged.lone_s + full_calls[name] * judged.full_s
            if worker.pipe.poll(10 * expected + PATIENCE_S):
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
        if number % 8 == 7:
            bench.say(
                f"timed {len(names)} variants in {number + 1} of {ROUNDS} rounds",
                BUILD_SHARE + (1 - BUILD_SHARE) * (number + 1) / ROUNDS,
            )
    return {name: (np.array(lone), np.array(full)) for name, (lone, full) in times.items()}


def _report(bench: Bench, times: Mapping[str, tuple[Times, Times]]) -> CompressionReport:
    job = bench.job
    results = [_result(bench, name, times) for name in (REFERENCE, *job.names)]
    examples = len(bench.ready[REFERENCE][1].report.ids)
    choice = choose(results, job.spec, examples=examples)
    return CompressionReport(
        reference=REFERENCE,
        variants=choice.variants,
        chosen=choice.name,
        reason=choice.reason,
        node_type=node_type(Path("/proc/cpuinfo").read_text()),
        objective=job.spec.objective,
        max_drop=dict(job.spec.max_drop),
        confidence=job.spec.confidence,
        batch_size=job.batch_size,
        threads=job.threads,
        examples=examples,
        seconds=round(time.monotonic() - job.began, 3),
    )


def _result(bench: Bench, name: str, times: Mapping[str, tuple[Times, Times]]) -> VariantResult:
    kind = VARIANTS[name].kind if name in VARIANTS else "eager"
    if name in bench.failures:
        return VariantResult(name=name, kind=kind, failure=bench.failures[name])
    job, (_, judged), (_, reference) = bench.job, bench.ready[name], bench.ready[REFERENCE]
    folder = job.folder(name)
    size, reference_size = _program_bytes(folder), _program_bytes(job.folder(REFERENCE))
    lone, full = times[name]
    measured = summarize(lone, full, job.batch_size)
    result = VariantResult(
        name=name,
        kind=kind,
        folder=name,
        digest=digest_of(folder),
        bytes=size,
        p50_ms=measured.p50_ms,
        p99_ms=measured.p99_ms,
        throughput=measured.throughput,
        peak_memory_mb=judged.peak_memory_mb,
        load_s=judged.load_s,
        metrics={
            metric: Estimate(value=found.value, low=found.low, high=found.high)
            for metric, found in judged.report.metrics.items()
        },
    )
    if name == REFERENCE:
        return result
    reference_lone, reference_full = times[REFERENCE]
    return replace(
        result,
        cosine=cosine(np.array(judged.outputs), np.array(reference.outputs)),
        drop=drops(judged.report, reference.report, tuple(job.spec.max_drop), confidence=job.spec.confidence),
        ratio=ratio(
            job.spec.objective,
            lone=lone,
            full=full,
            size=size,
            reference_lone=reference_lone,
            reference_full=reference_full,
            reference_size=reference_size,
        ),
    )


def _program_bytes(folder: Path) -> int:
    return (folder / verify(folder).file).stat().st_size


if __name__ == "__main__":
    sys.exit(main())
