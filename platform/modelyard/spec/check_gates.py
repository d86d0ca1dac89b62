"""What must be true of a gate's rules: one comparison each, of a metric that is there, and no field that cannot act."""

from collections.abc import Iterator, Sequence

from modelyard.record import camel_case
from modelyard.spec.check_numbers import at_least, between, positive
from modelyard.spec.gates import (
    COMPARISONS,
    NAMED_BY_COMPARISON,
    CrossValidation,
    GateRule,
    comparisons,
    metric_of,
)
from modelyard.spec.metrics import METRICS, MetricKind, metric_kind
from modelyard.spec.problem import FieldPath, Problem, did_you_mean
from modelyard.spec.project import ModelProject

_SLICED = (
    "at_least", "at_most", "not_worse_than_champion", "better_than_champion", "not_worse_than_anchor", "max_gap",
    "max_calibration_error",
)  # fmt: skip
_LATENCIES = tuple(name for name in METRICS if name.startswith("latency-"))
_CERTAIN = ("max_size", "no_regression_on")
"""Comparisons without an interval."""
MOST_FOLDS = 100
"""Trainings that one rule may ask for."""


def check_gates(rules: Sequence[GateRule], project: ModelProject) -> Iterator[Problem]:
    """What is wrong with rules, whose fields are `gates.0` and so on, for this project's labels and metrics."""
    for name in project.metrics:
        if name in METRICS:
            yield Problem(field=("metrics", name), message=f"{name} is one of ours; give your own another name")
    for index, rule in enumerate(rules):
        at = ("gates", str(index))
        chosen = comparisons(rule)
        if len(chosen) != 1:
            found = " and ".join(map(camel_case, chosen)) if chosen else "none"
            wanted = ", ".join(map(camel_case, COMPARISONS))
            yield Problem(field=at, message=f"needs exactly one of {wanted}; it has {found}")
        else:
            yield from _named(project, rule, chosen[0], at)
            yield from _comparison(project, rule, chosen[0], at)
            yield from _modifiers(project, rule, chosen[0], at)
        yield from between(0.5, rule.confidence, 1, (*at, "confidence"), low_open=True, high_open=True)


def check_metric(project: ModelProject, name: str, at: FieldPath) -> Iterator[Problem]:
    """What is wrong with a metric's name where a metric is asked for."""
    kind = metric_kind(name, project.metrics)
    if kind is None:
        names = [*METRICS, *project.metrics]
        message = f"no evaluator knows {name!r}; {did_you_mean(name, names)}"
        yield Problem(field=at, message=message + " One of your recipe's own is declared under metrics")
    elif project.data.labels.kind not in kind.labels:
        message = f"{name} is for labels of kind {' or '.join(kind.labels)}, and these are {project.data.labels.kind}"
        yield Problem(field=at, message=message)


def _named(project: ModelProject, rule: GateRule, chosen: str, at: FieldPath) -> Iterator[Problem]:
    named = NAMED_BY_COMPARISON.get(chosen)
    if rule.metric is None:
        if named is None:
            yield Problem(field=(*at, "metric"), message=f"is missing; {camel_case(chosen)} needs one", at=at)
    elif chosen == "max_latency":
        if rule.metric not in _LATENCIES:
            message = f"{rule.metric} is no latency; name one of {', '.join(_LATENCIES)}"
            yield Problem(field=(*at, "metric"), message=message)
    elif named is not None:
        yield Problem(field=(*at, "metric"), message=f"cannot act beside {camel_case(chosen)}; leave it out")
    else:
        yield from check_metric(project, rule.metric, (*at, "metric"))
    if chosen == "max_calibration_error" and project.data.labels.kind != "class":
        yield from check_metric(project, "ece", (*at, "maxCalibrationError"))


def _comparison(project: ModelProject, rule: GateRule, chosen: str, at: FieldPath) -> Iterator[Problem]:
    here = (*at, camel_case(chosen))
    kind = metric_kind(metric_of(rule), project.metrics)
    widest = 1.0 if kind and kind.bounded else 1e12
    if chosen in ("at_least", "at_most") and kind:
        yield from _bound(rule, chosen, kind, here)
    elif chosen in ("max_overfit", "max_gap", "max_calibration_error"):
        yield from between(0, getattr(rule, chosen), widest, here)
    elif chosen in ("not_worse_than_champion", "not_worse_than_anchor"):
        yield from between(0, getattr(rule, chosen).margin, widest, (*here, "margin"))
    elif rule.better_than_champion is False:
        yield Problem(field=here, message="false cannot act; leave the rule out")
    elif rule.max_latency is not None:
        yield from positive(rule.max_latency, here)
    elif rule.max_size is not None and rule.max_size.value < 1:
        yield Problem(field=here, message=f"{rule.max_size} is less than a byte; write it like 5M or 20Mi")
    elif rule.no_regression_on is not None:
        yield from _golden(project, rule.no_regression_on, here)
    anchor = rule.not_worse_than_anchor
    if anchor is not None and not anchor.version.isdigit():
        message = f"{anchor.version!r} is not a version, which is a whole number"
        yield Problem(field=(*here, "version"), message=message)


def _bound(rule: GateRule, chosen: str, kind: MetricKind, here: FieldPath) -> Iterator[Problem]:
    if kind.bounded:
        yield from between(0, getattr(rule, chosen), 1, here)
    wrong_way = {"at_least": "lower", "at_most": "higher"}[chosen]
    if wrong_way == kind.better:
        other = "atMost" if chosen == "at_least" else "atLeast"
        yield Problem(field=here, message=f"{rule.metric} is better when {wrong_way}; write {other}")


def _golden(project: ModelProject, name: str, here: FieldPath) -> Iterator[Problem]:
    if not name.strip():
        yield Problem(field=here, message="is empty; name a file of examples with their labels")
    if project.data.labels.kind == "number":
        message = "is for answers that are right or wrong; of numbers, gate a metric like mae instead"
        yield Problem(field=here, message=message)


def _modifiers(project: ModelProject, rule: GateRule, chosen: str, at: FieldPath) -> Iterator[Problem]:
    """Fields beside the comparison that cannot act there."""
    name, word = metric_of(rule), camel_case(chosen)
    if chosen == "max_gap" and rule.slice is None:
        yield Problem(field=(*at, "slice"), message="is missing; maxGap compares the values of a column", at=at)
    if rule.slice is not None:
        yield from _slice(project, name, chosen, (*at, "slice"))
    if chosen == "max_overfit" and name in _LATENCIES:
        yield Problem(field=(*at, "metric"), message=f"{name} cannot be overfit; name a metric of the answers")
    if chosen in _CERTAIN and rule.confidence != GateRule().confidence:
        yield Problem(field=(*at, "confidence"), message=f"cannot act beside {word}, which has no interval")
    if rule.cross_validated is not None:
        yield from _folds(project, rule, rule.cross_validated, (*at, "crossValidated"))


def _slice(project: ModelProject, name: str, chosen: str, here: FieldPath) -> Iterator[Problem]:
    if chosen not in _SLICED:
        yield Problem(field=here, message=f"cannot act beside {camel_case(chosen)}; leave it out")
    elif name in project.metrics:
        yield Problem(field=here, message=f"cannot act: {name} is the recipe's own and not measured by slice")
    elif name in _LATENCIES:
        yield Problem(field=here, message=f"cannot act: {name} is asked of the first examples, not measured by slice")


def _folds(project: ModelProject, rule: GateRule, folds: CrossValidation, here: FieldPath) -> Iterator[Problem]:
    acts = rule.at_least, rule.at_most, rule.not_worse_than_champion, rule.better_than_champion
    if all(each is None for each in acts) or rule.slice is not None or metric_of(rule) in _LATENCIES:
        message = "acts on atLeast, atMost, the champion; of a metric of the answers, without slice"
        yield Problem(field=here, message=message)
    yield from at_least(2, folds.folds, (*here, "folds"))
    yield from at_least(1, folds.repeats, (*here, "repeats"))
    if folds.folds * folds.repeats > MOST_FOLDS:
        message = f"{folds.folds} × {folds.repeats} trainings are more than {MOST_FOLDS}"
        yield Problem(field=here, message=message)
    start = project.train.initialize
    if start is not None and start.from_.startswith("models:/"):
        message = f"cannot act on a training that begins from {start.from_}, which has seen what is held out"
        yield Problem(field=here, message=message)
    if project.data.splits.time:
        message = "cannot act on data that is split by time: a model must not learn from the future"
        yield Problem(field=here, message=message)
