"""What a bench found, as a report: each variant's drop, costs over the reference's, and the choice."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from modelyard.compression.choose import choose
from modelyard.compression.drop import drops
from modelyard.compression.measure import Times, cosine, ratio, summarize
from modelyard.compression.report import REFERENCE, CompressionReport, Estimate, VariantResult
from modelyard.compression.variants import VARIANTS
from modelyard.compression.workers import Bench
from modelyard.model.node import node_type
from modelyard.model.predictor import digest_of, verify


def drop_of(bench: Bench, name: str) -> Mapping[str, Estimate]:
    """How much worse than the reference one that was judged is."""
    spec = bench.job.spec
    report, reference = bench.ready[name][1].report, bench.ready[REFERENCE][1].report
    return drops(report, reference, tuple(spec.max_drop), confidence=spec.confidence)


def ratio_of(bench: Bench, name: str, times: Mapping[str, tuple[Times, Times]]) -> Estimate:
    """The cost of a variant over the reference's in the rounds that it was in."""
    folder = bench.job.folder
    return ratio(
        bench.job.spec.objective,
        lone=times[name][0],
        full=times[name][1],
        size=_program_bytes(folder(name)),
        reference_lone=times[REFERENCE][0],
        reference_full=times[REFERENCE][1],
        reference_size=_program_bytes(folder(REFERENCE)),
    )


def report_of(bench: Bench, times: Mapping[str, tuple[Times, Times]]) -> CompressionReport:
    """All variants, and the one that is chosen."""
    job = bench.job
    results = [_result(bench, name, times) for name in bench.tried]
    examples = len(bench.ready[REFERENCE][1].report.ids)
    choice = choose(results, job.spec, examples=examples)
    return CompressionReport(
        reference=REFERENCE,
        variants=choice.variants,
        chosen=choice.name,
        reason=choice.reason,
        node_type=node_type(),
        objective=job.spec.objective,
        max_drop=dict(job.spec.max_drop),
        confidence=job.spec.confidence,
        batch_size=job.batch_size,
        threads=job.threads,
        examples=examples,
        seconds=round(time.monotonic() - job.began, 3),
    )


def _result(bench: Bench, name: str, times: Mapping[str, tuple[Times, Times]]) -> VariantResult:
    candidate = bench.tried[name]
    bare = VariantResult(
        name=name,
        kind=VARIANTS[candidate.variant].kind if candidate.variant in VARIANTS else "eager",
        settings=candidate.settings,
    )
    if name in bench.failures:
        return replace(bare, failure=bench.failures[name])
    job, (_, judged), (_, reference) = bench.job, bench.ready[name], bench.ready[REFERENCE]
    folder = job.folder(name)
    measured = summarize(*times[name], job.batch_size)
    result = replace(
        bare,
        folder=name,
        digest=digest_of(folder),
        bytes=_program_bytes(folder),
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
    return replace(
        result,
        cosine=cosine(np.array(judged.outputs), np.array(reference.outputs)),
        drop=drop_of(bench, name),
        ratio=ratio_of(bench, name, times),
    )


def _program_bytes(folder: Path) -> int:
    return (folder / verify(folder).file).stat().st_size
