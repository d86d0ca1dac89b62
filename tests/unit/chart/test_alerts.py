"""Alerts fire for what they are named after and are silent while all is well: played by Prometheus' own promtool."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.chart.chart import VALUES, objects

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus")

JOB = 'job="modelyard-operator"'
ATTEMPT = 'namespace="v",deployment="d"'
POD = 'namespace="v",modelyard_dev_deployment="d",pod="x"'
WELL = {
    f'modelyard_operator_leader{{{JOB},pod="a"}}': "1x300",
    f'modelyard_operator_leader{{{JOB},pod="b"}}': "0x300",
    f"modelyard_operator_queue_age_seconds{{{JOB}}}": "0x300",
    f'modelyard_operator_api_errors_total{{{JOB},verb="list",kind="Pod",error="Forbidden"}}': "0x300",
    f'modelyard_operator_registry_polled_timestamp_seconds{{{JOB},registry="v/main"}}': "0+60x300",
    f'modelyard_rollout_phase{{{ATTEMPT},rollout="d-1",phase="Successful"}}': "1x300",
    f"modelyard_alias_lag_seconds{{{ATTEMPT}}}": "0x300",
    f'modelyard_attempts_total{{{POD},code="200"}}': "0+99x300",
    f"modelyard_attempt_errors_total{{{POD}}}": "0+0.1x300",
    f"modelyard_worker_restarts{{{POD}}}": "0x300",
}
"""Series → values by the minute."""
ILL = {
    "ModelyardOperatorSilent": (f'modelyard_operator_leader{{{JOB},pod="a"}}', "1x30 0x270"),
    "ModelyardOperatorBehind": (f"modelyard_operator_queue_age_seconds{{{JOB}}}", "60x300"),
    "ModelyardOperatorErrors": (
        f'modelyard_operator_api_errors_total{{{JOB},verb="list",kind="Pod",error="Forbidden"}}', "0+60x300"),
    "ModelyardRegistryAway": (
        f'modelyard_operator_registry_polled_timestamp_seconds{{{JOB},registry="v/main"}}', "0x300"),
    "ModelyardRolloutFailed": (f'modelyard_rollout_phase{{{ATTEMPT},rollout="d-2",phase="Failed"}}', "_x30 1x270"),
    "ModelyardAliasLag": (f"modelyard_alias_lag_seconds{{{ATTEMPT}}}", "0+60x300"),
    "ModelyardPredictionsFailing": (f"modelyard_attempt_errors_total{{{POD}}}", "0+20x300"),
    "ModelyardPredictionsFailingSlowly": (f"modelyard_attempt_errors_total{{{POD}}}", "0+2x300"),
    "ModelyardWorkersRestarting": (f"modelyard_worker_restarts{{{POD}}}", "0+1x300"),
}  # fmt: skip


def fired(series: dict[str, str], tmp_path: Path) -> set[str]:
    """The alerts that fire after four hours of these series."""
    (rules,) = (each for each in objects(VALUES["observed"]) if each["kind"] == "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(json.dumps(rules["spec"]))
    alerts = [rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": "4h", "alertname": name, "exp_alerts": []} for name in alerts],
    }
    (tmp_path / "test.yaml").write_text(
        json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "5m", "tests": [test]})
    )
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    assert "parse error" not in said, said
    return {name for name in alerts if f"alertname: {name}," in said}


def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    assert fired(WELL, tmp_path) == set()


@pytest.mark.parametrize("alert", ILL)
def test_it_fires_for_what_it_is_named_after(alert: str, tmp_path: Path) -> None:
    name, values = ILL[alert]
    also = {"ModelyardPredictionsFailingSlowly"} if alert == "ModelyardPredictionsFailing" else set()
    assert fired(WELL | {name: values}, tmp_path) == {alert} | also


def test_many_failed_rollouts_are_more_than_each_of_them(tmp_path: Path) -> None:
    failed = {f'modelyard_rollout_phase{{namespace="v",deployment="f{n}",phase="Failed"}}': "1x300" for n in range(2)}
    well = {f'modelyard_rollout_phase{{namespace="v",deployment="w{n}",phase="Successful"}}': "1x300" for n in range(4)}
    assert fired(WELL | failed | well, tmp_path) == {"ModelyardRolloutFailed", "ModelyardRolloutsFailing"}
    only = {f'modelyard_rollout_phase{{namespace="v",deployment="w{n}",phase="Successful"}}': "1x300" for n in range(9)}
    assert fired(WELL | failed | only, tmp_path) == {"ModelyardRolloutFailed"}
