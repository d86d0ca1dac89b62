"""Reports made by hand."""

import random

from modelyard.evaluation.report import EvaluationReport

CLASSES = ("ant", "bee", "cat")


def report(labels, predictions, *, ids=None, classes=CLASSES, kind="class", **columns) -> EvaluationReport:
    ids = tuple(ids or (f"e{at}" for at in range(len(labels))))
    return EvaluationReport(
        model="sha256:0", variant="fp32", split="test", split_digest="sha256:1", kind=kind,
        classes=classes if kind == "class" else (), examples=len(ids), metrics={}, ids=ids,
        labels=tuple(labels), predictions=tuple(predictions), **columns,
    )  # fmt: skip


def right(count: int, of: int) -> EvaluationReport:
    """A report with `count` right answers."""
    labels = [at % 3 for at in range(of)]
    predictions = [label if at < count else (label + 1) % 3 for at, label in enumerate(labels)]
    return report(labels, predictions)


def paired(gained: int, lost: int, of: int) -> tuple[EvaluationReport, EvaluationReport]:
    """Candidate and champion that differ on so many examples and are right on all others."""
    labels = [at % 3 for at in range(of)]
    wrong = [(label + 1) % 3 for label in labels]
    candidate = [wrong[at] if gained <= at < gained + lost else labels[at] for at in range(of)]
    champion = [wrong[at] if at < gained else labels[at] for at in range(of)]
    return report(labels, candidate), report(labels, champion)


def chances(labels, *, seed=0, firm=2.0, classes=3):
    """Probabilities that lean to the labels, and their winners."""
    rng = random.Random(seed)
    rows = []
    for label in labels:
        weights = [rng.random() + (firm * rng.random() if at == label else 0.0) for at in range(classes)]
        rows.append(tuple(weight / sum(weights) for weight in weights))
    return tuple(rows), tuple(max(range(classes), key=row.__getitem__) for row in rows)
