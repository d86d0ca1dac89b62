"""Stage 4: the rules on a candidate's report and, where there is one, the champion's on the same examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from modelyard.errors import BadInput
from modelyard.evaluation.align import aligned, refuse_unlearnt, with_classes
from modelyard.evaluation.evidence import Beside, Golden, folds_key
from modelyard.evaluation.folded import folded, paired_folds
from modelyard.evaluation.measure import (
    Rows,
    apart,
    difference,
    discordant_pairs,
    gives,
    measured,
    variance,
)
from modelyard.evaluation.metrics import ALIASES
from modelyard.evaluation.report import EvaluationReport, Metric
from modelyard.evaluation.rules import WITHIN, Answer, Sides, cannot, check, decide, no_regression, not_recorded
from modelyard.evaluation.scores import hits
from modelyard.record import record
from modelyard.spec.gates import CrossValidation, GateRule, comparisons, metric_of
from modelyard.statistics.paired import holm
from modelyard.verdict import Outcome, Reason, Verdict

NO_METRIC = Metric(value=float("nan"), low=float("nan"), high=float("nan"))
MOST_VALUES = 50
"""Values of a column whose gaps are compared, each with each."""


@record
class RuleResult:
    """One rule, on all examples or on one slice: both sides and what came of it."""

    rule: GateRule
    slice: str | None = None
    """Value of the rule's slice column."""
    verdict: Verdict
    candidate: Metric
    other: Metric | None = None
    """What it was compared with."""
    against: str = "champion"
    """What that is: champion, version 3, train, a slice."""
    difference: Metric | None = None
    """Candidate minus the other; more is better for every metric. Of `maxOverfit` and `maxGap`: the gap."""
    examples: int
    needed: int | None = None
    """Examples that would do, where these do not."""


@record
class GateReport:
    """All rules and their common verdict: one Failed makes it Failed, else one Inconclusive makes it Inconclusive."""

    verdict: Verdict
    rules: tuple[RuleResult, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What all rules share."""

    candidate: EvaluationReport
    champion: EvaluationReport | None
    missing: Verdict | None
    """Why there is a champion that cannot be compared with."""
    beside: Beside


def gate(
    candidate: EvaluationReport,
    champion: EvaluationReport | Verdict | None,
    rules: Sequence[GateRule],
    *,
    beside: Beside | None = None,
) -> GateReport:
    """Decide whether a candidate may go on.

    Args:
        candidate: its report.
        champion: the champion's report on the same examples; None when there is none yet; where there is one that
            cannot be compared with, the verdict that says why: that is inconclusive, never a pass.
        rules: all must pass.
        beside: reports that rules ask for beside these two; a rule whose evidence is not there is inconclusive.

    Raises:
        BadInput: a rule cannot be decided, a metric or slice is unknown, or the reports are not on the same examples.
    """
    for rule in rules:
        check(rule)
    other = aligned(candidate, champion) if isinstance(champion, EvaluationReport) else None
    case = _Case(
        candidate=with_classes(candidate, other.classes) if other else candidate,
        champion=other,
        missing=champion if isinstance(champion, Verdict) else None,
        beside=beside or Beside(),
    )
    results = tuple(result for rule in rules for result in _results(rule, case))
    return GateReport(verdict=summary(results), rules=results)


class _Part(NamedTuple):
    """A slice of the examples."""

    value: str | None
    rows: Rows | None
    column: str | None = None
    """Of a split whose examples were not kept: the slice is what `_within` finds."""

    def count(self, report: EvaluationReport) -> int:
        return _within(report, self).examples if self.rows is None else len(self.rows)


def _within(report: EvaluationReport, part: _Part) -> EvaluationReport:
    """The report, or that of the part alone where only sums were kept."""
    if part.column is None or part.value is None:
        return report
    summed = report.summed[part.column][part.value]
    metrics = {name: Metric(value=value, low=value, high=value) for name, value in summed.values.items()}
    return replace(report, examples=summed.examples, metrics=metrics, own=summed.own)


def _results(rule: GateRule, case: _Case) -> list[RuleResult]:
    if rule.no_regression_on is not None:
        return [_golden(rule, case)]
    if rule.max_overfit is not None:
        return [_overfit(rule, case)]
    if rule.cross_validated is not None:
        return [_cross_validated(rule, rule.cross_validated, case)]
    if rule.max_gap is not None:
        return [_gap(rule, case)]
    return _sliced(rule, rule.slice, case) if rule.slice else [_result(rule, _Part(None, None), case)]


def _sliced(rule: GateRule, column: str, case: _Case) -> list[RuleResult]:
    """A rule on each value of a column."""
    parts = _parts(case.candidate, column)
    results = [_result(rule, part, case) for part in parts]
    # all must pass, uncorrected; but of many slices some look bad by chance: calling one Failed is corrected
    worst = [part for part, result in zip(parts, results, strict=True) if result.verdict.outcome == Outcome.FAILED]
    if len(parts) == 1 or not worst:
        return results

    def fails(part: _Part, alpha: float) -> bool:
        strict = replace(rule, confidence=1 - alpha)
        return _result(strict, part, case).verdict.outcome == Outcome.FAILED

    failed = {part.value for part in holm(parts, fails, 1 - rule.confidence)}
    return [result if result.slice in failed else _softened(result, f"among {len(parts)} slices") for result in results]


def _softened(result: RuleResult, among: str) -> RuleResult:
    """What looks Failed among many, and may be so by chance, is inconclusive."""
    if result.verdict.outcome != Outcome.FAILED:
        return result
    message = f"{result.verdict.message}; {among} that may be chance (Holm's correction)"
    verdict = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.TOO_FEW_EXAMPLES, message=message)
    return replace(result, verdict=verdict)


def _parts(report: EvaluationReport, column: str) -> list[_Part]:
    if column in report.summed:
        return [_Part(value, None, column) for value in sorted(report.summed[column])]
    if column not in report.slices:
        known = ", ".join(report.slices) or "none"
        raise BadInput(f"the report has no slices by {column!r} (it has {known})", do="evaluate with that slice")
    values = np.asarray(report.slices[column])
    return [_Part(str(value), np.flatnonzero(values == value)) for value in np.unique(values)]


def _result(rule: GateRule, part: _Part, case: _Case) -> RuleResult:
    """A rule on the test split, or a part of it."""
    candidate, name, rows = case.candidate, _name(rule), part.rows
    examples = part.count(candidate)
    other, against, missing = _other(rule, case)
    if other is not None:
        refuse_unlearnt(against, other.never_learnt)
    if isinstance(other, EvaluationReport) and against != "champion":
        other = aligned(candidate, other)
        candidate = with_classes(candidate, other.classes)
    candidate, other = _within(candidate, part), _within(other, part) if other else None
    mine = measured(candidate, name, rows=rows, confidence=rule.confidence)
    theirs = gap = pairs = None
    if other is not None and not gives(other, name):
        missing = cannot(f"the report of {against} has no {name}, so there is nothing to compare with")
    elif other is not None:
        theirs = measured(other, name, rows=rows, confidence=rule.confidence)
        gap = difference(candidate, other, name, rows=rows, confidence=rule.confidence)
        if name == "accuracy" and name not in candidate.own:
            pairs = discordant_pairs(candidate, other, rows)
    sides = Sides(
        candidate=mine,
        other=theirs,
        against=against,
        difference=gap,
        pairs=pairs,
        missing=missing,
        examples=examples,
        variance=variance(gap or mine, examples, rule.confidence),
    )
    return _decided(rule, sides, slice_=part.value)


def _other(rule: GateRule, case: _Case) -> tuple[EvaluationReport | None, str, Verdict | None]:
    """What a rule compares with on the test split: the report, its name, and why it is not there."""
    if rule.not_worse_than_anchor is not None:
        version = rule.not_worse_than_anchor.version
        anchor = case.beside.anchors.get(version, not_recorded(f"version {version} on this test split"))
        if isinstance(anchor, Verdict):
            return None, f"version {version}", anchor
        return anchor, f"version {version}", None
    if rule.not_worse_than_champion is not None or rule.better_than_champion:
        return case.champion, "champion", case.missing
    return None, "champion", None


def _overfit(rule: GateRule, case: _Case) -> RuleResult:
    """Train against validation: other examples, so two intervals combined."""
    splits, name = case.beside.splits, _name(rule)
    train, validation = splits.get("train"), splits.get("validation")
    if train is None or validation is None:
        return without(rule, "the training and the validation split")
    twice = set(train.ids) & set(validation.ids)
    if twice:
        raise BadInput(
            f"{len(twice)} examples are in the training and in the validation split, such as {min(twice)!r}",
            do="prepare the data anew, so that the splits have no example in common",
        )
    learnt = measured(train, name, confidence=rule.confidence)
    unseen = measured(validation, name, confidence=rule.confidence)
    gap, examples = apart(learnt, unseen), validation.examples
    sides = Sides(
        candidate=unseen,
        other=learnt,
        against="the training split",
        difference=gap,
        examples=examples,
        variance=variance(gap, examples, rule.confidence),
    )
    return _decided(rule, sides)


def _gap(rule: GateRule, case: _Case) -> RuleResult:
    """The largest difference between any two slices. All pairs must be within the limit, uncorrected."""
    assert rule.slice is not None
    parts = _parts(case.candidate, rule.slice)
    if len(parts) > MOST_VALUES:
        raise BadInput(
            f"{rule.slice} has {len(parts)} values, too many to compare each with each",
            do=f"name a column of at most {MOST_VALUES}",
        )
    if len(parts) == 1:
        raise BadInput(f"{rule.slice} has one value only ({parts[0].value})", do="name a column with at least two")
    known: dict[tuple[str | None, float], Metric] = {}

    def of(part: _Part, confidence: float) -> Metric:
        key = (part.value, confidence)
        if key not in known:
            report = _within(case.candidate, part)
            known[key] = measured(report, _name(rule), rows=part.rows, confidence=confidence)
        return known[key]

    def judged(pair: tuple[_Part, _Part], confidence: float) -> RuleResult:
        better, worse = sorted(pair, key=lambda part: of(part, confidence).value, reverse=True)
        if of(better, confidence).better == "lower":
            better, worse = worse, better
        gap = apart(of(better, confidence), of(worse, confidence))
        examples = sum(part.count(case.candidate) for part in pair)
        sides = Sides(
            candidate=of(worse, confidence),
            other=of(better, confidence),
            against=f"{rule.slice}={better.value}",
            difference=gap,
            examples=examples,
            variance=variance(gap, examples, confidence),
        )
        return _decided(rule, sides, slice_=worse.value)

    pairs = list(combinations(parts, 2))
    results = [judged(pair, rule.confidence) for pair in pairs]
    failed = [result.verdict.outcome == Outcome.FAILED for result in results]
    if any(failed) and len(pairs) > 1:

        def fails(at: int, alpha: float) -> bool:
            return judged(pairs[at], 1 - alpha).verdict.outcome == Outcome.FAILED

        sure = holm(range(len(pairs)), fails, 1 - rule.confidence)
        results = [
            one if at in sure else _softened(one, f"among {len(pairs)} pairs of slices")
            for at, one in enumerate(results)
        ]
    order = (Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.PASSED)
    return min(results, key=lambda one: (order.index(one.verdict.outcome), -_high(one)))


def _high(result: RuleResult) -> float:
    high = result.difference.high if result.difference else float("nan")
    return high if high == high else float("inf")  # noqa: PLR0124  NaN


def _cross_validated(rule: GateRule, asked: CrossValidation, case: _Case) -> RuleResult:
    """The mean of models trained anew, with an interval that knows that they share examples."""
    folds, name = case.beside.folds.get(folds_key(asked)), _name(rule)
    if folds is None:
        return without(rule, f"a cross-validation of {asked.folds} folds, {asked.repeats} times")
    if comparisons(rule)[0] in WITHIN or (case.champion is None and case.missing is None):
        return _decided(rule, folded(folds, asked, name, rule.confidence))
    champion = case.missing or case.beside.champion_folds.get(folds_key(asked))
    return _decided(rule, paired_folds(folds, champion, asked, name, rule.confidence))


def _golden(rule: GateRule, case: _Case) -> RuleResult:
    """Example by example."""
    name = rule.no_regression_on
    assert name is not None
    found = case.beside.golden.get(name)
    if found is None:
        return without(rule, f"the golden set {name}")
    mine = measured(found.candidate, "accuracy", confidence=rule.confidence)
    champion = found.champion
    if champion is None:
        message = f"{name}: accuracy {mine.value:.4g}; there is no champion yet, so nothing to compare with"
        verdict = Verdict(outcome=Outcome.PASSED, reason=Reason.NO_CHAMPION, message=message)
        return RuleResult(rule=rule, verdict=verdict, candidate=mine, examples=found.candidate.examples)
    missing = champion if isinstance(champion, Verdict) else None
    other: Metric | None = None
    lost: list[str] = []
    right = 0
    if isinstance(champion, EvaluationReport):
        lost, right = _lost(found, champion)
        other = measured(champion, "accuracy", confidence=rule.confidence)
    examples = found.candidate.examples
    verdict = no_regression(name, lost, champion_right=right, examples=examples, missing=missing)
    return RuleResult(rule=rule, verdict=verdict, candidate=mine, other=other, examples=examples)


def _lost(golden: Golden, champion: EvaluationReport) -> tuple[list[str], int]:
    """What only the champion answers rightly, in words; and how many it answers rightly."""
    other = aligned(golden.candidate, champion)
    mine = with_classes(golden.candidate, other.classes)
    theirs_right = hits(other)
    shown: Callable[[object], str] = repr if mine.kind == "text" else lambda at: mine.classes[int(at)]  # type: ignore[call-overload]
    lost = [
        f"{mine.ids[at]} ({shown(mine.labels[at])} taken for {shown(mine.predictions[at])})"
        for at in np.flatnonzero(theirs_right & ~hits(mine))
    ]
    return lost, int(theirs_right.sum())


def without(rule: GateRule, what: str) -> RuleResult:
    """What comes of a rule whose evidence was not kept: it cannot be said to pass."""
    return RuleResult(rule=rule, verdict=not_recorded(what), candidate=NO_METRIC, examples=0)


def _decided(rule: GateRule, sides: Sides, *, slice_: str | None = None) -> RuleResult:
    answer: Answer = decide(rule, sides)
    verdict = answer.verdict
    if slice_ is not None:
        verdict = replace(verdict, message=f"{rule.slice}={slice_}: {verdict.message}")
    return RuleResult(
        rule=rule,
        slice=slice_,
        verdict=verdict,
        candidate=sides.candidate,
        other=sides.other,
        against=sides.against,
        difference=sides.difference,
        examples=sides.examples,
        needed=answer.needed,
    )


def _name(rule: GateRule) -> str:
    return ALIASES.get(metric_of(rule), metric_of(rule))


def summary(results: Sequence[RuleResult]) -> Verdict:
    """The common verdict of rules."""
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
