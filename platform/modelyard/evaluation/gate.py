"""Stage 4: the rules on a candidate's report and, where there is one, the champion's on the same examples."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from modelyard.errors import BadInput
from modelyard.evaluation.measure import Rows, difference, discordant_pairs, gives, measured, variance
from modelyard.evaluation.metrics import ALIASES
from modelyard.evaluation.report import EvaluationReport, Metric
from modelyard.evaluation.rules import Answer, Sides, check, decide, needs_champion
from modelyard.record import record
from modelyard.spec.gates import GateRule
from modelyard.statistics.paired import holm
from modelyard.verdict import Outcome, Reason, Verdict


@record
class RuleResult:
    """One rule, on all examples or on one slice: both sides and what came of it."""

    rule: GateRule
    slice: str | None = None
    """Value of the rule's slice column."""
    verdict: Verdict
    candidate: Metric
    champion: Metric | None = None
    difference: Metric | None = None
    """Candidate minus champion; more is better for every metric."""
    examples: int
    needed: int | None = None
    """Examples that would do, where these do not."""


@record
class GateReport:
    """All rules and their common verdict: one Failed makes it Failed, else one Inconclusive makes it Inconclusive."""

    verdict: Verdict
    rules: tuple[RuleResult, ...] = ()


def gate(
    candidate: EvaluationReport, champion: EvaluationReport | Verdict | None, rules: Sequence[GateRule]
) -> GateReport:
    """Decide whether a candidate may go on.

    Args:
        candidate: its report.
        champion: the champion's report on the same examples; None when there is none yet; where there is one that
            cannot be compared with, the verdict that says why: that is inconclusive, never a pass.
        rules: all must pass.

    Raises:
        BadInput: a rule cannot be decided, a metric or slice is unknown, or the reports are not on the same examples.
    """
    for rule in rules:
        check(rule)
    missing = champion if isinstance(champion, Verdict) else None
    other = aligned(candidate, champion) if isinstance(champion, EvaluationReport) else None
    mine = _with_classes(candidate, other.classes) if other else candidate
    results = tuple(result for rule in rules for result in _results(rule, mine, other, missing))
    return GateReport(verdict=_summary(results), rules=results)


def aligned(candidate: EvaluationReport, champion: EvaluationReport) -> EvaluationReport:
    """The champion's report with its examples in the candidate's order, and one list of classes for both.

    Raises:
        BadInput: the reports are on different examples or labels; the message names the first.
    """
    place = {name: at for at, name in enumerate(champion.ids)}
    if place.keys() != set(candidate.ids) or len(champion.ids) != len(candidate.ids):
        odd = sorted(place.keys() ^ set(candidate.ids))
        raise BadInput(
            f"candidate and champion were judged on different examples ({len(odd)} differ"
            + (f", such as {odd[0]!r})" if odd else ")"),
            do="evaluate both on the same split, now",
        )
    if candidate.kind != champion.kind:
        raise BadInput(
            f"a label of kind {candidate.kind} against {champion.kind}", do="evaluate both on the same split"
        )
    order = [place[name] for name in candidate.ids]
    classes = (*candidate.classes, *(name for name in champion.classes if name not in candidate.classes))
    moved = _with_classes(_reordered(champion, order), classes)
    for name, mine, theirs in zip(candidate.ids, candidate.labels, moved.labels, strict=True):
        if mine != theirs:
            raise BadInput(
                f"example {name!r} has another label in the champion's report",
                do="evaluate both on the same split, now",
            )
    return moved


def _reordered(report: EvaluationReport, order: Sequence[int]) -> EvaluationReport:
    """The same report with its examples in another order. Latencies and the recipe's own resamples stay as they are."""
    if list(order) == list(range(len(order))):
        return report
    changes: dict[str, Any] = {
        column: tuple(values[at] for at in order)
        for column in ("ids", "labels", "predictions", "scores", "probabilities", "losses")
        if (values := getattr(report, column))
    }
    changes["slices"] = {name: tuple(values[at] for at in order) for name, values in report.slices.items()}
    return replace(report, **changes, own={})


def _with_classes(report: EvaluationReport, classes: tuple[str, ...]) -> EvaluationReport:
    """The same report with its classes counted in a longer or reordered list."""
    if report.kind != "class" or report.classes == classes:
        return report
    moved = [classes.index(name) for name in report.classes]
    probabilities = []
    for row in report.probabilities:
        placed = [0.0] * len(classes)
        for at, chance in zip(moved, row, strict=True):
            placed[at] = chance
        probabilities.append(tuple(placed))
    return replace(
        report,
        classes=classes,
        labels=tuple(moved[int(label)] for label in report.labels),
        predictions=tuple(moved[int(prediction)] for prediction in report.predictions),
        probabilities=tuple(probabilities),
    )


class _Part(NamedTuple):
    """A slice of the examples."""

    value: str | None
    rows: Rows | None


def _results(
    rule: GateRule, candidate: EvaluationReport, champion: EvaluationReport | None, missing: Verdict | None
) -> list[RuleResult]:
    if rule.slice is None:
        return [_result(rule, _Part(None, None), candidate, champion, missing)]
    parts = _parts(candidate, rule.slice)
    results = [_result(rule, part, candidate, champion, missing) for part in parts]
    # all must pass, uncorrected; but of many slices some look bad by chance: calling one Failed is corrected
    worst = [part for part, result in zip(parts, results, strict=True) if result.verdict.outcome == Outcome.FAILED]
    if len(parts) == 1 or not worst:
        return results

    def fails(part: _Part, alpha: float) -> bool:
        strict = replace(rule, confidence=1 - alpha)
        return _result(strict, part, candidate, champion, missing).verdict.outcome == Outcome.FAILED

    failed = {part.value for part in holm(parts, fails, 1 - rule.confidence)}
    return [_softened(result, failed, len(parts)) for result in results]


def _softened(result: RuleResult, failed: set[str | None], slices: int) -> RuleResult:
    if result.verdict.outcome != Outcome.FAILED or result.slice in failed:
        return result
    message = f"{result.verdict.message}; among {slices} slices that may be chance (Holm's correction)"
    verdict = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.TOO_FEW_EXAMPLES, message=message)
    return replace(result, verdict=verdict)


def _parts(report: EvaluationReport, column: str) -> list[_Part]:
    if column not in report.slices:
        known = ", ".join(report.slices) or "none"
        raise BadInput(f"the report has no slices by {column!r} (it has {known})", do="evaluate with that slice")
    values = np.asarray(report.slices[column])
    return [_Part(str(value), np.flatnonzero(values == value)) for value in np.unique(values)]


def _result(
    rule: GateRule,
    part: _Part,
    candidate: EvaluationReport,
    champion: EvaluationReport | None,
    missing: Verdict | None,
) -> RuleResult:
    name, rows, confidence = ALIASES.get(rule.metric, rule.metric), part.rows, rule.confidence
    examples = len(candidate.ids) if rows is None else len(rows)
    mine = measured(candidate, name, rows=rows, confidence=confidence)
    theirs = gap = pairs = None
    if champion is not None and needs_champion(rule) and not gives(champion, name):
        message = f"the champion's report has no {name}, so there is nothing to compare with"
        missing = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.CHAMPION_UNAVAILABLE, message=message)
    elif champion is not None and needs_champion(rule):
        theirs = measured(champion, name, rows=rows, confidence=confidence)
        gap = difference(candidate, champion, name, rows=rows, confidence=confidence)
        if name == "accuracy" and name not in candidate.own:
            pairs = discordant_pairs(candidate, champion, rows)
    sides = Sides(
        candidate=mine,
        champion=theirs,
        difference=gap,
        pairs=pairs,
        missing=missing,
        examples=examples,
        variance=variance(gap or mine, examples, confidence),
    )
    answer = decide(rule, sides)
    return RuleResult(
        rule=rule,
        slice=part.value,
        verdict=_of_slice(answer, rule, part),
        candidate=mine,
        champion=theirs,
        difference=gap,
        examples=examples,
        needed=answer.needed,
    )


def _of_slice(answer: Answer, rule: GateRule, part: _Part) -> Verdict:
    if part.value is None:
        return answer.verdict
    return replace(answer.verdict, message=f"{rule.slice}={part.value}: {answer.verdict.message}")


def _summary(results: Sequence[RuleResult]) -> Verdict:
    if not results:
        return Verdict(outcome=Outcome.PASSED, reason=Reason.ALL_RULES_PASSED, message="there are no rules")
    for outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE):
        found = [result.verdict for result in results if result.verdict.outcome == outcome]
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return replace(found[0], message=found[0].message + more)
    said = "; ".join(result.verdict.message for result in results[:4])
    more = f"; and {len(results) - 4} more" if len(results) > 4 else ""
    return Verdict(outcome=Outcome.PASSED, reason=Reason.ALL_RULES_PASSED, message=said + more)
