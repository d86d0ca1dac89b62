"""The stage: variants of one model, each judged on the validation split and on the clock, and the one that serves."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from modelyard import errors
from modelyard.compression.job import Job
from modelyard.compression.overlap import check_overlap
from modelyard.compression.report import REFERENCE, CompressionReport, VariantResult
from modelyard.compression.variants import VARIANTS
from modelyard.data.prepared import load_prepared
from modelyard.errors import BadInput, ModelyardError, StageFailed
from modelyard.model.predictor import FolderError, verify
from modelyard.processes import Child, spawn
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.gates import Compress
from modelyard.spec.metrics import OwnMetric
from modelyard.spec.problem import did_you_mean
from modelyard.storage.atomic import write_text

__all__ = ["CompressionReport", "VariantResult", "compress"]

Progress = Callable[[str, float | None], None]

REFERENCE_PATIENCE_S = 1800.0
"""Beyond the time budget, which is for the variants: the reference alone is evaluated to its end."""
LONG_S = 120.0
"""Time budget from which families that take a minute of a core, or train, are tried without being named."""


def compress(
    model: Path,
    data: Path,
    spec: Compress,
    *,
    batch_size: int,
    threads: int,
    work: Path,
    out: Path,
    declared: Mapping[str, OwnMetric] | None = None,
    progress: Progress | None = None,
) -> CompressionReport:
    """Make variants of a model, measure them beside it, and choose the one that serves.

    Args:
        model: model folder of the uncompressed model, kind eager.
        data: prepared folder: the train split calibrates, the validation split judges, the test split is not read.
        spec: budget, objective, and which variants to try.
        batch_size: examples in a full batch of the server.
        threads: threads within one operation, as the server will have.
        work: scratch space; code is unpacked there.
        out: folder to which each variant's model folder `<name>/` is written.
        declared: the recipe's own metrics as the project declares them: which way is better.
        progress: told what happens, and which share of the work is done.

    Raises:
        BadInput: an unknown variant or metric, a negative drop, an empty split; nothing was written.
        StageFailed: the uncompressed model itself cannot be evaluated.
    """
    began = time.monotonic()
    names = _checked(model, data, spec, batch_size=batch_size, threads=threads)
    bench = out / ".bench"
    shutil.rmtree(bench, ignore_errors=True)
    moved: list[Path] = []
    try:
        job = Job(
            model=str(model.resolve()),
            data=str(data.resolve()),
            spec=spec,
            names=names,
            batch_size=batch_size,
            threads=threads,
            work=str(work.resolve()),
            out=str(bench.resolve() / "variants"),
            began=began,
            declared=declared or {},
        )
        report = _run(job, bench, progress or (lambda *_: None))
        for result in report.variants:
            if result.folder:
                final = out / result.folder
                shutil.rmtree(final, ignore_errors=True)
                (bench / "variants" / result.folder).rename(final)
                moved.append(final)
    except BaseException:
        for final in moved:
            shutil.rmtree(final, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(bench, ignore_errors=True)
    return report


def _checked(model: Path, data: Path, spec: Compress, *, batch_size: int, threads: int) -> tuple[str, ...]:
    """The variants to try, once the input is known to be good."""
    check(spec)
    if batch_size < 1 or threads < 1:
        raise BadInput(f"batch size {batch_size} and {threads} threads", do="give at least one of each")
    try:
        described = verify(model)
    except FolderError as error:
        raise BadInput(error.what, do=error.do) from None
    if described.kind != "eager":
        raise BadInput(f"{model} is a model of kind {described.kind}", do="compress the folder that training made")
    prepared = load_prepared(data)
    for split, use in (("train", "calibrate on"), ("validation", "judge on")):
        if not sum(shard.examples for shard in prepared.splits.get(split, ())):
            raise BadInput(f"The {split} split in {data} is empty: nothing to {use}", do=f"raise data.splits.{split}")
    check_overlap(data)
    return names_to_try(spec)


def check(spec: Compress) -> None:
    """Check what can be known of the section without a model.

    Raises:
        BadInput: an unknown variant, a drop that is negative or no number, a confidence outside 0.5 and 1, a student
            that no variant would be distilled into, or one that is missing.
    """
    for name in spec.variants or ():
        if name != REFERENCE and name not in VARIANTS:
            hint = did_you_mean(name, (REFERENCE, *VARIANTS))
            raise BadInput(f"compress.variants names {name!r}; {hint}", do="correct the name")
        if name in VARIANTS and VARIANTS[name].student and spec.student is None:
            raise BadInput(
                f"compress.variants names {name}, and there is no compress.student",
                do="give the arguments of the recipe that make a smaller model, such as student: {width: 16}",
            )
    if spec.student is not None and not any(VARIANTS[name].student for name in names_to_try(spec)):
        raise BadInput("compress.student cannot act: no variant is distilled", do="name distilled, or leave it out")
    for metric, allowed in spec.max_drop.items():
        if not (math.isfinite(allowed) and allowed >= 0):
            raise BadInput(f"compress.maxDrop.{metric} is {allowed:g}", do="give a drop of 0 or more")
    if not 0.5 < spec.confidence < 1:
        raise BadInput(f"compress.confidence is {spec.confidence:g}", do="give a share like 0.95")


def names_to_try(spec: Compress) -> tuple[str, ...]:
    """The variants beside the reference: those named, else all that can be built here in the time that there is.

    Without a `maxDrop` nothing may be lost, so by default nothing is tried either.
    """
    if spec.variants is not None:
        return tuple(name for name in VARIANTS if name in spec.variants)
    if not spec.max_drop:
        return ()
    when = ("always", "long") if spec.time_budget.seconds >= LONG_S else ("always",)
    return tuple(
        name
        for name, variant in VARIANTS.items()
        if variant.when in when and variant.missing() is None and (not variant.student or spec.student is not None)
    )


def _run(job: Job, bench: Path, progress: Progress) -> CompressionReport:
    """Let the bench's own process do it, and hand on what it tells."""
    write_text(bench / "job.json", to_json(job))
    told = bench / "progress"
    told.touch()
    threads = str(job.threads)
    child = spawn(
        [sys.executable, "-P", "-m", "modelyard.compression.bench", bench / "job.json"],
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONWARNINGS": "ignore"},
        log=bench / "log",
    )
    try:
        with told.open() as lines:
            until = job.began + job.spec.time_budget.seconds + REFERENCE_PATIENCE_S
            while child.alive():
                if time.monotonic() > until:
                    raise StageFailed(f"Compression is not done after {until - job.began:g} s", do="see its model")
                _hand_on(lines.readlines(), progress)
                time.sleep(0.05)
            _hand_on(lines.readlines(), progress)
        return _outcome(bench, child)
    finally:
        child.stop(grace=1.0)


def _hand_on(lines: list[str], progress: Progress) -> None:
    for line in lines:
        if line.endswith("\n"):
            told, share = json.loads(line)
            progress(told, share)


def _outcome(bench: Path, child: Child) -> CompressionReport:
    if (bench / "error.json").is_file():
        known = json.loads((bench / "error.json").read_text())
        kind: type[ModelyardError] = getattr(errors, known["type"], StageFailed)
        raise kind(known["what"], do=known["do"])
    if not (bench / "report.json").is_file():
        raise StageFailed(f"Compression ended with {child.exit_code}\n{child.tail()}", do="read the lines above")
    return from_json(CompressionReport, (bench / "report.json").read_bytes(), where="the bench's report")
