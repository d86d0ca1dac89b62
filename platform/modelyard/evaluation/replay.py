"""Decide again on kept evidence, by other rules."""

from collections.abc import Sequence
from dataclasses import replace

from modelyard.errors import BadInput
from modelyard.evaluation.evidence import Evidence
from modelyard.evaluation.gate import GateReport, RuleResult, gate, summary, without
from modelyard.spec.gates import GateRule


def replay(evidence: Evidence, rules: Sequence[GateRule]) -> GateReport:
    """What a gate with these rules would have said.

    A rule on what was not looked at then (another slice, a metric that the report lacks, a golden set) is inconclusive
    with the reason NotRecorded.
    """
    results = tuple(result for rule in rules for result in _decided(evidence, rule))
    return GateReport(verdict=summary(results), rules=results)


def _decided(evidence: Evidence, rule: GateRule) -> tuple[RuleResult, ...]:
    try:
        return gate(evidence.candidate, evidence.champion, (rule,), beside=evidence.beside).rules
    except BadInput as error:
        result = without(rule, error.what)
        return (replace(result, examples=evidence.candidate.examples),)
