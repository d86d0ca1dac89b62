"""`analysis.baseline` where it cannot act."""

import pytest
from tests.unit.spec.test_check import GOOD

from modelyard.errors import BadSpec
from modelyard.spec.parse import parse_project_text


def test_a_baseline_without_steps_is_refused() -> None:
    with pytest.raises(BadSpec, match=r"deployment\.analysis\.baseline: cannot act without steps"):
        parse_project_text(
            GOOD, overrides={"deployment.analysis.baseline": "true", "deployment.strategy.canary.steps": "[]"}
        )


def test_a_baseline_beside_steps_is_taken() -> None:
    project = parse_project_text(GOOD, overrides={"deployment.analysis.baseline": "true"})
    assert project.deployment.analysis.baseline
