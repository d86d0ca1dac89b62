"""Alerts and dashboards ask for metrics that are told, under their names."""

import json
import re

import pytest
from tests.unit.chart.chart import CHART, VALUES, objects

from modelyard.serving.tally import Tally
from modelyard_operator.due import Queue
from modelyard_operator.index import Index
from modelyard_operator.metrics import Metrics

SUPERVISOR = {"modelyard_ready", "modelyard_worker_restarts", "modelyard_queue_latency_seconds"}
"""Gauges of process 1, whose test asks the real ones."""
SUFFIX = re.compile(r"_(bucket|count|sum|created)$")


def told() -> set[str]:
    """Names of what the operator and the pods tell."""
    tally = Tally()
    tally.ended(200, 0.1)
    metrics = Metrics(Index(), Queue())
    text = metrics.text().decode() + tally.text(dict.fromkeys(SUPERVISOR, 0.0))
    return {SUFFIX.sub("", name) for name in re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE)}


def asked(text: str) -> set[str]:
    names = re.findall(r"\bmodelyard_[a-z_]+", text)
    return {SUFFIX.sub("", name) for name in names} - {"modelyard_dev_deployment", "modelyard_dev_arm"}


def test_every_alert_asks_for_what_is_told() -> None:
    (rules,) = (each for each in objects(VALUES["observed"]) if each["kind"] == "PrometheusRule")
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            assert asked(rule["expr"]), rule
            assert asked(rule["expr"]) <= told(), rule["alert"]


@pytest.mark.parametrize("name", ["rollouts", "serving", "operator"])
def test_every_panel_asks_for_what_is_told(name: str) -> None:
    board = json.loads((CHART / "dashboards" / f"{name}.json").read_text())
    for panel in board["panels"]:
        assert panel["description"].endswith(".")
        for target in panel["targets"]:
            assert asked(target["expr"]), panel["title"]
            assert asked(target["expr"]) <= told(), panel["title"]
            assert target["legendFormat"]


def test_dashboards_come_as_config_maps_that_hold_what_the_files_say() -> None:
    maps = [each for each in objects(VALUES["observed"]) if each["kind"] == "ConfigMap"]
    assert len(maps) == 3
    for each in maps:
        ((file, text),) = each["data"].items()
        assert json.loads(text) == json.loads((CHART / "dashboards" / file).read_text())
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
