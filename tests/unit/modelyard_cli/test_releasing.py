"""A person steers an attempt by its record; the rollout loop does the rest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from modelyard.errors import Conflict
from modelyard.rollout.laptop.records import FileRecords
from modelyard.runs.rollout import deployment_spec, wish
from modelyard.spec.deployment import Condition, Rollback
from modelyard.spec.metadata import Metadata
from modelyard.spec.parse import parse_deployment, parse_project
from modelyard.spec.rollout import ModelRollout, Phase, RolloutSpec, RolloutStatus, RolloutWeights
from modelyard.verdict import Outcome, Reason, Verdict
from modelyard_cli import wiring
from modelyard_cli.view import age, rollout_row

from .conftest import Command


def records(folder: Path) -> FileRecords:
    return FileRecords(folder / ".modelyard" / "yard" / "records")


@pytest.fixture
def attempt(folder: Path) -> ModelRollout:
    """A canary of version 2 at 5 %."""
    kept, project = records(folder), parse_project(folder)
    wish(kept, project)
    serving = deployment_spec(project)
    made = ModelRollout(
        metadata=Metadata(name="digits-00002"),
        spec=RolloutSpec(
            deployment="digits",
            version="2",
            digest="sha256:2",
            arm="digits-two",
            serving=serving,
            previous={"version": "1", "digest": "sha256:1", "arm": "digits-one"},
            steps=serving.strategy.canary.steps,
        ),
    )
    stored = kept.write(made)
    status = RolloutStatus(
        phase=Phase.PROGRESSING,
        step=1,
        started_at=1000.0,
        weights=RolloutWeights(confirmed={"digits-one": 95, "digits-two": 5}),
    )
    return kept.write(replace(stored, status=status))


def newest(folder: Path) -> ModelRollout:
    return records(folder).rollouts("default/digits")[-1]


def test_rollout_status_shows_each_attempt(folder: Path, command: Command, attempt: ModelRollout) -> None:
    (row,) = json.loads(command("rollout", "status", "-p", folder, "-o", "json").stdout)
    assert row["version"] == "2"
    assert row["from"] == "1"
    assert (row["phase"], row["step"], row["weight"]) == ("Progressing", "1/4", "5 %")
    assert "digits-00002" in command("rollout", "status", "digits", "-p", folder).stdout


def test_rollout_status_before_any_attempt(folder: Path, command: Command) -> None:
    assert "no attempt yet" in command("rollout", "status", "-p", folder).stdout
    assert json.loads(command("rollout", "status", "-p", folder, "-o", "json").stdout) == []


@pytest.mark.parametrize(("verb", "switch"), [("pause", "paused"), ("abort", "abort"), ("promote", "promote")])
def test_a_switch_is_set_on_the_newest_attempt(
    verb: str, switch: str, folder: Path, command: Command, attempt: ModelRollout
) -> None:
    told = command("rollout", verb, "-p", folder)
    assert told.exit_code == 0, told.stderr
    assert f"{verb}: digits-00002 (version 2)" in told.stdout
    assert "it is done when the rollout loop runs: modelyard up" in told.stdout
    assert getattr(newest(folder).spec, switch) is True


def test_resume_lets_a_held_attempt_go_on(folder: Path, command: Command, attempt: ModelRollout) -> None:
    command("rollout", "pause", "-p", folder)
    assert "(paused)" in command("rollout", "status", "-p", folder).stdout
    command("rollout", "resume", "-p", folder)
    assert newest(folder).spec.paused is False


@pytest.mark.parametrize("verb", ["promote", "pause", "resume", "abort", "retry", "undo"])
def test_steering_where_nothing_was_brought_in_is_bad_input(verb: str, folder: Path, command: Command) -> None:
    refused = command("rollout", verb, "-p", folder)
    assert refused.exit_code == 2
    assert "no deployment of digits here (there are: none yet)" in refused.stderr


@pytest.mark.parametrize("verb", ["promote", "pause", "resume", "abort"])
def test_steering_without_an_attempt_is_bad_input(verb: str, folder: Path, command: Command) -> None:
    wish(records(folder), parse_project(folder))
    refused = command("rollout", verb, "-p", folder)
    assert refused.exit_code == 2
    assert "there is no attempt to steer" in refused.stderr


def test_an_ended_attempt_cannot_be_steered(folder: Path, command: Command, attempt: ModelRollout) -> None:
    """Abort with nothing rolling must do nothing (argoproj/argo-rollouts #1292, #4461)."""
    records(folder).write(replace(attempt, status=replace(attempt.status, phase=Phase.FAILED, ended_at=2000.0)))
    before = newest(folder)
    refused = command("rollout", "abort", "-p", folder)
    assert refused.exit_code == 2
    assert "digits-00002 is Failed: there is nothing to abort" in refused.stderr
    assert newest(folder) == before


def test_retry_of_a_failed_attempt_is_a_new_one(folder: Path, command: Command, attempt: ModelRollout) -> None:
    """A retry inherits no measurements (argoproj/argo-rollouts #2824, #2897)."""
    failed = replace(attempt.status, phase=Phase.FAILED, ended_at=2000.0, analysis={"old": 1})
    records(folder).write(replace(attempt, status=failed))
    told = command("rollout", "retry", "-p", folder)
    assert told.exit_code == 0, told.stderr
    assert newest(folder).metadata.name != attempt.metadata.name
    assert newest(folder).spec.version == "2"
    assert newest(folder).status.analysis == {}


def test_a_change_is_repeated_when_somebody_else_wrote_in_between(folder: Path, attempt: ModelRollout) -> None:
    """An update is lost when two writers meet (nolar/kopf #1178)."""
    kept = records(folder)
    meddled = []

    def act(_wish: object, rollouts: tuple[ModelRollout, ...]) -> ModelRollout:
        read = rollouts[-1]
        if not meddled:
            meddled.append(kept.write(replace(read, spec=replace(read.spec, promote=True))))
        return replace(read, spec=replace(read.spec, paused=True))

    wiring.change(kept, "default/digits", act)  # type: ignore[arg-type]
    assert (newest(folder).spec.promote, newest(folder).spec.paused) == (True, True)


def test_a_change_that_never_gets_through_ends(folder: Path, attempt: ModelRollout) -> None:
    stale = replace(attempt, metadata=replace(attempt.metadata, resource_version="0"))
    with pytest.raises(Conflict):
        wiring.change(records(folder), "default/digits", lambda _wish, _rollouts: stale)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["v7", "latest", "1.0", ""])
def test_promoting_what_is_no_version_is_bad_input_before_anything_starts(
    version: str, folder: Path, command: Command
) -> None:
    refused = command("promote", "digits", version, "-p", folder)
    assert refused.exit_code == 2
    assert f"{version!r} is not a version" in refused.stderr
    assert not (folder / ".modelyard" / "yard").exists()


def test_a_row_shows_the_verdict_with_both_sides(attempt: ModelRollout) -> None:
    verdict = Verdict(outcome=Outcome.FAILED, reason=Reason.ERROR_RATE, message="canary 20 % > stable 0 %")
    ended = replace(attempt, status=replace(attempt.status, verdict=verdict, ended_at=1090.0, phase=Phase.FAILED))
    row = rollout_row(ended, now=5000.0)
    assert row["verdict"] == "Failed: ErrorRate"
    assert row["message"] == "canary 20 % > stable 0 %"
    assert row["took"] == "1m30s"


@pytest.mark.parametrize(("seconds", "told"), [(-3, "0s"), (59.9, "59s"), (60, "1m0s"), (90000, "1d1h")])
def test_a_length_of_time_in_two_units(seconds: float, told: str) -> None:
    assert age(seconds) == told


URI = "https://mlflow.example.com"


def test_export_writes_what_kubectl_applies(folder: Path, command: Command) -> None:
    told = command("export", "-p", folder, "--tracking-uri", URI, "-n", "vision", "--secret", "mlflow")
    registry, deployment = yaml.safe_load_all(told.stdout)
    assert registry["kind"] == "ModelRegistry"
    assert registry["spec"]["mlflow"]["trackingURI"] == URI
    assert registry["spec"]["mlflow"]["credentialsSecretRef"] == {"name": "mlflow"}
    assert deployment["kind"] == "ModelDeployment"
    assert deployment["metadata"] == {"name": "digits", "namespace": "vision"}
    assert deployment["spec"]["model"]["alias"] == "champion"
    assert "status" not in deployment


def test_what_is_exported_is_the_same_wish_as_on_the_laptop(folder: Path, command: Command) -> None:
    text = command("export", "-p", folder, "--tracking-uri", URI).stdout.split("---\n")[1]
    there = parse_deployment(text).spec
    assert there == deployment_spec(parse_project(folder))
    assert type(there.rollback) is Rollback
    assert there.rollback.alias == "Restore"


def test_a_laptops_port_does_not_go_to_the_cluster(folder: Path, command: Command) -> None:
    file = folder / "modelyard.yaml"
    file.write_text(file.read_text() + "  traffic: {port: 8000}\n")
    _, deployment = yaml.safe_load_all(command("export", "-p", folder, "--tracking-uri", URI).stdout)
    assert "port" not in deployment["spec"]["traffic"]


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mlflow", "is no http address"),
        ("sqlite:///mlflow.db", "is no http address"),
        ("http://127.0.0.1:5000", "is a pod itself"),
        ("http://localhost:5000", "is a pod itself"),
    ],
)
def test_an_address_that_no_pod_can_reach_is_refused(uri: str, told: str, folder: Path, command: Command) -> None:
    refused = command("export", "-p", folder, "--tracking-uri", uri)
    assert refused.exit_code == 2
    assert told in refused.stderr


def test_export_to_a_file_prints_where_it_is(folder: Path, command: Command, tmp_path: Path) -> None:
    told = command("export", "-p", folder, "--tracking-uri", URI, "--to", tmp_path / "objects.yaml")
    assert told.stdout == f"{tmp_path / 'objects.yaml'}\n"
    assert "ModelDeployment" in (tmp_path / "objects.yaml").read_text()


def test_simulate_tells_a_good_canary_from_a_bad_one(folder: Path, command: Command) -> None:
    words = ("--errors", "0.01", "--regression", "0.3", "--rps", "50", "--rollouts", "4", "-o", "json")
    good, bad = json.loads(command("rollout", "simulate", "-p", folder, *words).stdout)
    assert good["rolled back"] == "0%"
    assert bad["rolled back"] == "100%"
    assert bad["median s"] < good["median s"]


def test_the_same_seed_simulates_the_same(folder: Path, command: Command) -> None:
    words = ("rollout", "simulate", "-p", folder, "--weight", "50", "--rollouts", "3", "-o", "json")
    first, again = (command(*words).stdout for _ in range(2))
    assert first == again
    assert command(*words, "--seed", "1").stdout != first


def test_without_traffic_a_simulation_is_inconclusive(folder: Path, command: Command) -> None:
    words = ("--rps", "0.05", "--rollouts", "2", "-o", "json")
    for row in json.loads(command("rollout", "simulate", "-p", folder, *words).stdout):
        assert row["inconclusive"] == "100%"


def test_what_keeps_the_loop_from_going_on_stands_beside_the_attempt(
    folder: Path, command: Command, attempt: ModelRollout
) -> None:
    kept = records(folder)
    there = kept.deployment("default/digits")
    assert there is not None
    stuck = Condition(type="Degraded", status="True", reason="Refused", message="traffic.port 8080 is taken")
    kept.write(replace(there, status=replace(there.status, conditions=(stuck,))))
    (row,) = json.loads(command("rollout", "status", "-p", folder, "-o", "json").stdout)
    assert row["message"] == "traffic.port 8080 is taken"
    told = json.loads(command("status", "-p", folder, "-o", "json").stdout)
    assert told["deployments"][0]["conditions"].endswith("Degraded Refused: traffic.port 8080 is taken")
