"""`rollout explain` says where each metric stands, with both sides and both bounds, now and over time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.reports import sample

from modelyard.rollout.explain import over_time, standings
from modelyard.rollout.laptop.records import FileRecords
from modelyard.runs.rollout import wish
from modelyard.spec.deployment import Guardrail
from modelyard.spec.parse import parse_project
from modelyard.spec.rollout import ModelRollout
from modelyard.units import Percentage

from .conftest import Command


@pytest.fixture(scope="module")
def failed() -> ModelRollout:
    return sample.rollout()


@pytest.fixture(scope="module")
def passed() -> ModelRollout:
    return sample.rollout(errors=0.002, slow_ms=6.0)


def kept(folder: Path, attempt: ModelRollout) -> FileRecords:
    records = FileRecords(folder / ".modelyard" / "yard" / "records")
    wish(records, parse_project(folder))
    stored = records.write(replace(attempt, status=type(attempt.status)()))
    records.write(replace(stored, status=attempt.status))
    return records


def test_it_says_where_each_metric_stands_and_why(folder: Path, command: Command, failed: ModelRollout) -> None:
    kept(folder, failed)
    said = command("rollout", "explain", "-p", folder)
    assert said.exit_code == 0, said.stderr
    assert "digits-00003, version 3, Failed. Failed:" in said.stdout
    assert "beyond the margin" in said.stdout
    assert "of 200" in said.stdout
    assert "of 24" in said.stdout
    assert "█" in said.stdout


def test_as_data_it_has_both_sides_the_bounds_and_the_history(
    folder: Path, command: Command, passed: ModelRollout
) -> None:
    kept(folder, passed)
    told = json.loads(command("rollout", "explain", "-p", folder, "-o", "json").stdout)
    assert told["verdict"]["outcome"] == "Successful"
    errors, latency = told["metrics"]
    assert (errors["metric"], latency["metric"]) == ("error-rate", "latency-p90")
    assert errors["good"] >= errors["good_needed"] == pytest.approx(23.5)
    assert errors["words"] == "not worse by the margin: shown"
    assert latency["worse"] < latency["worse_needed"] == pytest.approx(200)
    assert {mark["metric"] for mark in told["history"]} == {"error-rate", "latency-p90"}


def test_guardrails_are_told_beside_the_metrics(folder: Path, command: Command, passed: ModelRollout) -> None:
    rail = Guardrail(at_most=Percentage("20%"))
    spec = replace(passed.spec.serving.analysis, guardrails=(rail,))
    serving = replace(passed.spec.serving, analysis=spec)
    evidence = {
        **passed.status.analysis,
        "rails": [{"metric": "failed at most 20%", "blocks": 0, "logs": [], "logE": 0.0}],
    }
    guarded = replace(
        passed, spec=replace(passed.spec, serving=serving), status=replace(passed.status, analysis=evidence)
    )
    kept(folder, guarded)
    assert "at most 20%" in command("rollout", "explain", "-p", folder).stdout
    (line,) = json.loads(command("rollout", "explain", "-p", folder, "-o", "json").stdout)["guardrails"]
    assert line.startswith("guardrail: ")


def test_the_bounds_over_time_are_drawn_into_a_file(
    folder: Path, tmp_path: Path, command: Command, passed: ModelRollout
) -> None:
    kept(folder, passed)
    drawn = tmp_path / "analysis.svg"
    assert command("rollout", "explain", "-p", folder, "--to", drawn).exit_code == 0
    assert drawn.read_text().startswith("<svg")
    refused = command("rollout", "explain", "-p", folder, "--to", tmp_path / "analysis.gif")
    assert refused.exit_code == 2
    assert "ends in .svg" in refused.stderr


def test_an_attempt_is_chosen_by_its_name(folder: Path, command: Command, passed: ModelRollout) -> None:
    kept(folder, passed)
    assert command("rollout", "explain", "-p", folder, "--attempt", "digits-00003").exit_code == 0
    refused = command("rollout", "explain", "-p", folder, "--attempt", "digits-00009")
    assert refused.exit_code == 2
    assert "Choose one of digits-00003" in refused.stderr


def test_before_any_attempt_there_is_nothing_to_explain(folder: Path, command: Command) -> None:
    refused = command("rollout", "explain", "-p", folder)
    assert refused.exit_code == 2
    assert "there is no attempt to explain" in refused.stderr


def test_an_attempt_without_evidence_says_so(folder: Path, command: Command, passed: ModelRollout) -> None:
    kept(folder, replace(passed, status=replace(passed.status, analysis={})))
    assert "has no evidence" in command("rollout", "explain", "-p", folder).stdout


def test_an_open_metric_says_how_many_more_requests_it_takes(passed: ModelRollout) -> None:
    evidence = dict(passed.status.analysis)
    trials = [{**trial, "logE": min(float(trial["logE"]), 1.0)} for trial in evidence["trials"]]
    open_ = replace(passed, status=replace(passed.status, analysis={**evidence, "trials": trials}))
    words = {stand.metric: stand.words for stand in standings(open_)}
    assert "at this pace the canary has to answer about" in words["error-rate"]
    assert "nothing speaks against it" in words["error-rate"]


def test_what_is_told_over_time_is_bounded_and_ends_with_the_last_look(passed: ModelRollout) -> None:
    marks = over_time(passed, moments=5)
    assert len({mark.at for mark in marks}) <= 5
    assert marks[-1].at == max(mark["at"] for mark in passed.status.analysis["history"])
