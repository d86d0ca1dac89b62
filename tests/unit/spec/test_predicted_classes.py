"""The metric `prediction-drift`: what cannot be compared is refused at its field."""

import pytest
from tests.unit.spec.test_check import GOOD

from modelyard.errors import BadSpec
from modelyard.spec.parse import parse_project_text

METRICS = "[{name: prediction-drift, margin: {type: Absolute, value: 10%}}]"
STEPS = "[{setWeight: 5}, {analysis: {margins: {prediction-drift: 20%}}}]"


def said(**overrides: str) -> str:
    """What is said of a project that compares predictions; nothing where it is taken."""
    changed = {"deployment.analysis.metrics": METRICS, "deployment.strategy.canary.steps": STEPS}
    changed |= {name.replace("__", "."): value for name, value in overrides.items()}
    try:
        parse_project_text(GOOD, overrides=changed)
    except BadSpec as error:
        return str(error)
    return ""


def test_a_margin_of_its_own_and_one_of_a_step_are_taken() -> None:
    assert said() == ""


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"deployment__analysis__metrics": METRICS.replace("Absolute", "Relative")}, "cannot act on a distance"),
        ({"deployment__analysis__metrics": METRICS.replace("10%", "101%")}, "1.01 is out of range"),
        ({"data__labels__kind": "number"}, "metrics.0.name: compares predicted classes"),
        ({"data__labels__classes": f"[{', '.join(f'c{n}' for n in range(101))}]"}, "at most 100 classes; data.labels"),
        (
            {"deployment__analysis__metrics": METRICS.replace("}}]", "}, query: {total: \"a{b='$arm'}\", sum: x}}]")},
            "'prediction-drift' cannot name a query",
        ),
    ],
    ids=["relative", "more than everything", "a regression", "too many classes", "a query of that name"],
)
def test_what_cannot_be_compared_is_refused(overrides: dict[str, str], message: str) -> None:
    assert message in said(**overrides)
