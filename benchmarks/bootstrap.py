"""How long does the bootstrap of a confusion matrix take? 10,000 examples × 2,000 resamples in under 0.1 s.

    python benchmarks/bootstrap.py

Beside it, what recomputing the metric on resampled examples would take (20 of 2,000 are timed).
"""

import time

import numpy as np

from modelyard.evaluation.measure import difference, measured
from modelyard.evaluation.report import EvaluationReport

EXAMPLES, CLASSES, RESAMPLES = 10_000, 10, 2000


def report(rng: np.random.Generator, labels: np.ndarray) -> EvaluationReport:
    """Nine of ten right."""
    wrong = rng.random(EXAMPLES) < 0.1
    predictions = np.where(wrong, rng.integers(0, CLASSES, EXAMPLES), labels)
    return EvaluationReport(
        model="", variant="", split="test", split_digest="", kind="class", classes=tuple(map(str, range(CLASSES))),
        examples=EXAMPLES, metrics={}, ids=tuple(map(str, range(EXAMPLES))), labels=tuple(labels.tolist()),
        predictions=tuple(predictions.tolist()),
    )  # fmt: skip


def main() -> None:
    """Print milliseconds of CPU, the best of five."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, EXAMPLES)
    one, other = report(rng, labels), report(rng, labels)
    print(f"{EXAMPLES:,} examples, {CLASSES} classes, {RESAMPLES:,} resamples; CPU of one thread, best of five")
    for what, act in (
        ("macro F1 with its interval", lambda: measured(one, "f1-macro", resamples=RESAMPLES)),
        ("its paired difference to another model", lambda: difference(one, other, "f1-macro")),
    ):
        took = []
        for _ in range(5):
            began = time.process_time()
            act()
            took.append(time.process_time() - began)
        print(f"{what:42} {1000 * min(took):7.1f} ms")
    began = time.process_time()
    for _ in range(20):
        rows = rng.integers(0, EXAMPLES, EXAMPLES)
        matrix = np.zeros((CLASSES, CLASSES))
        np.add.at(matrix, (labels[rows], np.asarray(one.predictions)[rows]), 1)
    print(f"{'recomputing it on each resample':42} {1000 * (time.process_time() - began) * RESAMPLES / 20:7.1f} ms")


if __name__ == "__main__":
    main()
