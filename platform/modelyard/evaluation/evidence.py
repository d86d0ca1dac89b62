"""All that a gate's rules look at, kept with the version: explained later, or decided again by other rules."""

from collections.abc import Mapping
from dataclasses import field

from modelyard.evaluation.report import EvaluationReport
from modelyard.record import record
from modelyard.spec.gates import CrossValidation
from modelyard.verdict import Verdict


@record
class Golden:
    """Both sides on one golden set."""

    candidate: EvaluationReport
    champion: EvaluationReport | Verdict | None = None
    """None: there is no champion yet. A verdict: why it cannot be compared with."""


@record
class Folds:
    """One recipe, trained anew on parts of the data; each model judged on what it has not seen."""

    reports: tuple[EvaluationReport, ...]
    test_to_train: float
    """Examples held out for each that was learnt from."""


@record
class Beside:
    """What rules ask for beside the test split."""

    anchors: Mapping[str, EvaluationReport | Verdict] = field(default_factory=dict)
    """Version → its report on the candidate's test split, or why there is none."""
    splits: Mapping[str, EvaluationReport] = field(default_factory=dict)
    """The candidate on `train` (at most 10,000 examples) and `validation`."""
    golden: Mapping[str, Golden] = field(default_factory=dict)
    """By the golden set's name."""
    folds: Mapping[str, Folds] = field(default_factory=dict)
    """By `folds_key`."""
    champion_folds: Mapping[str, Folds | Verdict] = field(default_factory=dict)
    """The champion's, as its own gate recorded them; or why there are none. Of equal splits they are the same parts."""


@record
class Evidence:
    """What a gate decided on."""

    candidate: EvaluationReport
    champion: EvaluationReport | Verdict | None = None
    beside: Beside = Beside()


def folds_key(asked: CrossValidation) -> str:
    """The name of a cross-validation: `5x2` is five folds, dealt twice."""
    return f"{asked.folds}x{asked.repeats}"
