"""Values: what is wrong is refused with a message that names it, and each is described."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from helm_python import HelmError
from tests.unit.chart.chart import CHART, ROOT, chart, rendered
from tests.unit.chart.table import described, table

DEFAULTS: Mapping[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())

WRONG = {
    "a key that is not known": ({"operators": {}}, "operators"),
    "a key that is not known, deep inside": ({"operator": {"replica": 3}}, "replica"),
    "no replica": ({"operator": {"replicas": 0}}, "replicas"),
    "a number that is a string": ({"operator": {"replicas": "2"}}, "replicas"),
    "a pull policy in lower case": ({"images": {"pullPolicy": "always"}}, "pullPolicy"),
    "a Prometheus without http": ({"operator": {"prometheus": "prometheus:9090"}}, "prometheus"),
    "memory in words": ({"operator": {"resources": {"limits": {"memory": "a lot"}}}}, "memory"),
    "an interval without a unit": ({"metrics": {"serviceMonitor": {"interval": "15"}}}, "interval"),
    "an error budget in percent": ({"metrics": {"rules": {"errorBudget": "1%"}}}, "errorBudget"),
    "a bucket that is no S3 address": ({"mlflow": {"enabled": True, "s3": {"destination": "models"}}}, "destination"),
    "credentials of an S3 that is not used": (
        {"mlflow": {"enabled": True, "s3": {"credentialsSecret": "s3"}}}, "credentialsSecret"),
    "a database of an MLflow that is not run": ({"mlflow": {"postgresSecret": "pg"}}, "postgresSecret"),
    "a body of a test that asks nobody": ({"test": {"body": "[]"}}, "body"),
    "an image with a space": ({"images": {"operator": "my operator"}}, "operator"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_its_name(name: str) -> None:
    values, key = WRONG[name]
    with pytest.raises(HelmError, match=key):
        rendered(values)


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{path}{name}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{name}.")


def known(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from known(below, f"{path}{name}.")


def test_the_schema_knows_the_values_that_there_are_and_no_others() -> None:
    free = {"operator.resources", "mlflow.resources", "metrics.dashboards.labels"}
    mine = {leaf for leaf in leaves(DEFAULTS) if not any(leaf.startswith(f"{each}.") for each in free)}
    schema = chart().schema
    assert schema is not None
    theirs = {leaf for leaf in known(schema) if not any(leaf.startswith(f"{each}.") for each in free)}
    assert theirs - {"global"} == mine


def test_every_value_is_read_by_a_template() -> None:
    text = "".join(file.read_text() for file in (CHART / "templates").rglob("*") if file.is_file())
    for value, _, _ in described():
        last = value.rpartition(".")[2]
        assert re.search(rf"\.{last}\b", text), f"{value} does nothing"


def test_the_table_of_values_is_the_one_in_the_docs() -> None:
    shown = (ROOT / "docs" / "install.md").read_text()
    assert table() in shown, "run: python -m tests.unit.chart.table docs/install.md"


def test_an_older_kubernetes_is_refused_by_the_chart() -> None:
    metadata = chart().metadata
    assert metadata["kubeVersion"] == ">=1.30.0-0"
