"""Whether predicted classes can be compared: the metric `prediction-drift`."""

from collections.abc import Iterator

from modelyard.spec.data import Labels
from modelyard.spec.deployment import Analysis, AnalysisMetric
from modelyard.spec.problem import FieldPath, Problem

DRIFT = "prediction-drift"
"""The metric that compares the classes that both arms predict."""
MOST_CLASSES = 100
"""Of a model whose predictions are compared: servers and router count each."""


def check_drift(metric: AnalysisMetric, at: FieldPath) -> Iterator[Problem]:
    """What is wrong with a metric, where it compares classes."""
    if metric.name == DRIFT and metric.margin.type == "Relative":
        message = "Relative cannot act on a distance from stable; write Absolute"
        yield Problem(field=(*at, "margin", "type"), message=message)


def check_predicted(analysis: Analysis, labels: Labels, at: FieldPath) -> Iterator[Problem]:
    """Whether a project's model predicts classes, where they are to be compared."""
    for index, metric in enumerate(analysis.metrics):
        here = (*at, "metrics", str(index), "name")
        if metric.name == DRIFT and labels.kind != "class":
            message = f"compares predicted classes, and cannot act on labels of kind {labels.kind}"
            yield Problem(field=here, message=message)
        elif metric.name == DRIFT and len(labels.classes or ()) > MOST_CLASSES:
            message = f"compares at most {MOST_CLASSES} classes; data.labels has {len(labels.classes or ())}"
            yield Problem(field=here, message=message)
