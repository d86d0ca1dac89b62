"""A run from the command line: what it prints, and how it ends."""

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelyard.errors import Busy, StageFailed, Stopped
from modelyard.project import Metrics, Project, Run
from modelyard.runs.journal import Journal, RunRecord, RunState, StageEntry
from modelyard.runs.stages import Stage
from modelyard.spec.parse import parse_project
from modelyard.verdict import Outcome, Reason, Verdict
from modelyard_cli.running import differences, flat

from .conftest import Command


def kept(folder: Path, name: str, **changes: Any) -> RunRecord:
    spec = parse_project(folder, overrides={"train.epochs": str(changes.pop("epochs", 12))})
    record = RunRecord(id=name, started_at=time.time(), project=spec, code_digest="sha256:c", ended_at=time.time())
    return Journal(folder / ".modelyard").keep(replace(record, **changes))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces what a run does; gives what it was called with."""
    called: dict[str, Any] = {"state": RunState.SUCCEEDED}

    def run(self: Project, **given: Any) -> Run:
        called.update(given)
        given["observer"].on_event("prepare", "started", "", None)
        given["observer"].on_event("prepare", "done", "1797 examples", 1.0)
        if "raises" in called:
            raise called["raises"]
        record = kept(self.folder, "20260101-000000", state=called["state"], metrics={"accuracy": 0.97}, version="2")
        if "promote" in called:
            record = replace(record, project=replace(record.project, promote=called["promote"]))
        verdict = Verdict(outcome=Outcome.FAILED, reason=Reason.WORSE, message="0.80 < 0.85")
        return Run(self, record.with_stage(StageEntry(stage=Stage.GATE, verdict=verdict)))

    monkeypatch.setattr(Project, "run", run)
    return called


@pytest.mark.parametrize(
    ("state", "code"),
    [("Succeeded", 0), ("Failed", 1), ("Refused", 3), ("Inconclusive", 4), ("Stopped", 130)],
)
def test_a_run_ends_with_the_code_of_what_it_came_to(
    state: str, code: int, folder: Path, command: Command, runs: dict[str, Any]
) -> None:
    runs["state"] = RunState(state)
    ended = command("run", "-p", folder)
    assert ended.exit_code == code
    assert "accuracy 0.97" in ended.stdout
    assert "Failed (Worse): 0.80 < 0.85" in ended.stdout


WAYS = {
    "automatic": {"predict at": "http://127.0.0.1:1/v1/models/digits:predict"},
    "manual": {"next": "modelyard promote digits 2"},
}


@pytest.mark.parametrize("promote", WAYS)
def test_a_run_ends_with_where_its_version_answers_or_with_what_brings_it_there(
    promote: str, folder: Path, command: Command, runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard_cli.wiring.running", lambda home: SimpleNamespace(router="http://127.0.0.1:1"))
    runs["promote"] = promote
    told = json.loads(command("run", "-p", folder, "-o", "json").stdout)
    assert {name: told[name] for name in ("predict at", "next") if name in told} == WAYS[promote]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (StageFailed("the loss is NaN at step 3", do="lower lr"), 1, "error: the loss is NaN at step 3. Lower lr.\n"),
        (Busy("modelyard run (pid 7) holds it", do="wait"), 1, "error: modelyard run (pid 7) holds it. Wait.\n"),
        (Stopped("asked to stop", do="run again"), 130, "error: asked to stop. Run again.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_a_run_that_stops_says_why_without_a_traceback(  # noqa: PLR0917
    error: BaseException, code: int, told: str, folder: Path, command: Command, runs: dict[str, Any]
) -> None:
    runs["raises"] = error
    ended = command("run", "-p", folder)
    assert ended.exit_code == code
    assert ended.stderr.endswith(told)
    assert "Traceback" not in ended.output


def test_a_runs_progress_goes_to_stderr_and_its_data_to_stdout(
    folder: Path, command: Command, runs: dict[str, Any]
) -> None:
    ended = command("run", "-p", folder, "--output", "json")
    assert json.loads(ended.stdout)["metrics"] == {"accuracy": 0.97}
    assert "prepare" in ended.stderr
    assert "1797 examples" in ended.stderr


def test_from_until_and_set_reach_the_run(folder: Path, command: Command, runs: dict[str, Any]) -> None:
    command("run", "-p", folder, "--from", "train", "--until", "gate", "--set", "train.epochs=3", "--set", "a.b=c=d")
    assert (runs["from_"], runs["until"]) == (Stage.TRAIN, Stage.GATE)
    assert runs["set"] == {"train.epochs": "3", "a.b": "c=d"}


def test_a_stage_that_does_not_exist_is_bad_input(folder: Path, command: Command) -> None:
    refused = command("run", "-p", folder, "--until", "trian")
    assert refused.exit_code == 2
    assert "there is no stage 'trian'; did you mean train?" in refused.stderr
    assert "prepare, train, evaluate" in refused.stderr


def test_compare_shows_metrics_and_only_the_settings_that_differ(folder: Path, command: Command) -> None:
    kept(folder, "one", metrics={"accuracy": 0.9})
    kept(folder, "two", metrics={"accuracy": 0.95}, epochs=20)
    rows = json.loads(command("compare", "one", "two", "-p", folder, "-o", "json").stdout)
    assert [row["accuracy"] for row in rows] == [0.9, 0.95]
    assert [row["train.epochs"] for row in rows] == [12, 20]
    assert "train.batchSize" not in rows[0]
    lines = command("compare", "one", "two", "-p", folder).stdout.splitlines()
    assert lines[0].split() == ["one", "two"]
    assert ["train.epochs", "12", "20"] in [line.split() for line in lines]


def test_a_person_reads_a_latency_with_its_unit_and_a_program_reads_it_by_its_name(
    folder: Path, command: Command
) -> None:
    for name in ("one", "two"):
        kept(folder, name, metrics={"latency-p50": 0.2})
    assert "latency-p50 (ms)" in command("compare", "one", "two", "-p", folder).stdout
    rows = json.loads(command("compare", "one", "two", "-p", folder, "-o", "json").stdout)
    assert [row["latency-p50"] for row in rows] == [0.2, 0.2]


def test_a_metric_that_a_run_does_not_have_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(KeyError, match="did you mean accuracy"):
        Metrics({"accuracy": 0.9})["acuracy"]


def test_comparing_a_run_that_is_not_there_names_those_that_are(folder: Path, command: Command) -> None:
    kept(folder, "one")
    refused = command("compare", "one", "three", "-p", folder)
    assert refused.exit_code == 2
    assert "there is no run 'three' (the last ones: one)" in refused.stderr


def test_a_report_without_a_run_says_how_to_get_one(folder: Path, command: Command) -> None:
    refused = command("report", "-p", folder)
    assert refused.exit_code == 2
    assert "has no run yet. Start one: modelyard run." in refused.stderr


def test_report_prints_where_the_file_is(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept(folder, "one")
    monkeypatch.setattr(Run, "report", lambda self, to: to or Path(self.id))
    assert command("report", "-p", folder).stdout == "one\n"
    assert command("report", "one", "-p", folder, "--to", tmp_path / "r.html").stdout == f"{tmp_path / 'r.html'}\n"


def test_nested_settings_are_compared_by_path() -> None:
    assert flat({"a": {"b": [1, {"c": 2}]}}) == {"a.b.0": 1, "a.b.1.c": 2}
    assert differences([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1}]) == [{"b": 1}, {"b": 2}, {"b": None}]
