"""How long does an interval take? 10,000 examples of ten classes, in under 0.1 s.

    python benchmarks/intervals.py

Beside it, what recomputing the metric on 2,000 resamples would take (20 of them are timed).
"""

import time

import numpy as np

from modelyard.evaluation.measure import difference, measured
from modelyard.evaluation.report import EvaluationReport

EXAMPLES, CLASSES, RESAMPLES = 10_000, 10, 2000


def report(rng: np.random.Generator, labels: np.ndarray) -> EvaluationReport:
    """Nine of ten right."""
    chances = rng.dirichlet(np.ones(CLASSES), EXAMPLES) * 0.3
    likely = np.where(rng.random(EXAMPLES) < 0.1, rng.integers(0, CLASSES, EXAMPLES), labels)
    chances[np.arange(EXAMPLES), likely] += 0.7
    return EvaluationReport(
        model="", variant="", split="test", split_digest="", kind="class", classes=tuple(map(str, range(CLASSES))),
        examples=EXAMPLES, metrics={}, ids=tuple(map(str, range(EXAMPLES))), labels=tuple(labels.tolist()),
        predictions=tuple(chances.argmax(axis=1).tolist()), probabilities=tuple(map(tuple, chances.tolist())),
    )  # fmt: skip


def main() -> None:
    """Print milliseconds of CPU, the best of five."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, EXAMPLES)
    one, other = report(rng, labels), report(rng, labels)
    print(f"{EXAMPLES:,} examples, {CLASSES} classes; CPU of one thread, best of five")
    for name in ("f1-macro", "log-loss", "auroc", "average-precision"):
        for what, act in (
            ("with its interval", lambda name=name: measured(one, name)),
            ("paired difference", lambda name=name: difference(one, other, name)),
        ):
            took = []
            for _ in range(5):
                began = time.process_time()
                act()
                took.append(time.process_time() - began)
            print(f"{name:18} {what:42} {1000 * min(took):8.1f} ms")
    began = time.process_time()
    for _ in range(20):
        rows = rng.integers(0, EXAMPLES, EXAMPLES)
        matrix = np.zeros((CLASSES, CLASSES))
        np.add.at(matrix, (labels[rows], np.asarray(one.predictions)[rows]), 1)
    spent = 1000 * (time.process_time() - began) * RESAMPLES / 20
    print(f"{'f1-macro':18} {f'recomputed on {RESAMPLES:,} resamples':42} {spent:8.1f} ms")


if __name__ == "__main__":
    main()
