"""Every kind of rule stands in the page, the Markdown and the table, also where nothing could be measured."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.evaluation.evidence import Beside, Folds, Golden
from modelyard.evaluation.gate import GateReport, gate
from modelyard.reports import sections, tables
from modelyard.reports.view import RunView
from modelyard.spec.gates import Anchor, CrossValidation, GateRule
from modelyard.units import Duration, Quantity

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from made import paired, right

RULES = (
    GateRule(metric="accuracy", not_worse_than_anchor=Anchor(version="1", margin=0.02)),
    GateRule(metric="accuracy", max_overfit=0.05),
    GateRule(metric="accuracy", max_gap=0.1, slice="region"),
    GateRule(max_calibration_error=0.1),
    GateRule(max_latency=Duration("20ms")),
    GateRule(max_size=Quantity("5M")),
    GateRule(no_regression_on="hard.csv"),
    GateRule(metric="accuracy", at_least=0.9, cross_validated=CrossValidation()),
)
NAMES = [
    "accuracy not worse than version 1 by 0.02",
    "accuracy overfit at most 0.05",
    "accuracy gap between values of region at most 0.1",
    "ece at most 0.1",
    "latency-p90 at most 20ms",
    "size at most 5M",
    "no regression on hard.csv",
    "accuracy at least 0.9, 5 folds × 1",
]


@pytest.fixture
def decided() -> GateReport:
    candidate, champion = paired(12, 6, 540)
    candidate = replace(
        candidate, bytes=123_456, latencies_ms=tuple(1 + at / 50 for at in range(100)),
        slices={"region": tuple("nsw"[at % 3] for at in range(540))},
        probabilities=tuple(tuple(0.98 if at == one else 0.01 for at in range(3)) for one in candidate.predictions),
    )  # fmt: skip
    splits = {
        name: replace(right(hits, 300), ids=tuple(f"{name}{at}" for at in range(300)))
        for name, hits in (("train", 299), ("validation", 290))
    }
    beside = Beside(
        anchors={"1": champion}, splits=splits, golden={"hard.csv": Golden(candidate=candidate, champion=champion)},
        folds={"5x1": Folds(reports=tuple(right(100 + at, 108) for at in range(5)), test_to_train=0.25)},
    )  # fmt: skip
    return gate(candidate, champion, RULES, beside=beside)


def test_each_rule_is_named_with_both_sides(decided: GateReport) -> None:
    rows = tables.gates(decided).rows
    assert [row[0] for row in rows] == NAMES
    assert rows[0][2].endswith("(version 1)")
    assert rows[1][3].startswith("gap 0.03")
    assert rows[2][2] == "0.9889 [0.9604, 0.9969] (region=n)"
    assert rows[5][1] == "123,456"


def test_the_page_shows_each_rule_also_without_evidence(decided: GateReport) -> None:
    for report in (decided, gate(right(530, 540), None, [RULES[at] for at in (0, 1, 6, 7)])):
        page = str(sections.gate(RunView(model="m", run="r", started_at=0.0, state="Refused", gates=report)))
        for one in report.rules:
            assert tables.rule_name(one) in page
    assert "not recorded with this version" in page
    assert "nan" not in page.lower()
