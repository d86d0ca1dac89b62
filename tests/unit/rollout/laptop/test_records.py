"""Wishes and attempts as files."""

import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.errors import BadInput, Conflict
from modelyard.rollout.laptop.records import FileRecords
from modelyard.spec.deployment import DeploymentSpec, DeploymentStatus, ModelDeployment, ModelRef
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import ModelRollout, Phase, RolloutSpec, RolloutStatus

SPEC = DeploymentSpec(model=ModelRef(name="digits", alias="champion"), replicas=1)


def wish(name: str = "digits", **metadata: str) -> ModelDeployment:
    return ModelDeployment(metadata=Metadata(name=name, **metadata), spec=SPEC)


def attempt(name: str, deployment: str = "digits") -> ModelRollout:
    spec = RolloutSpec(deployment=deployment, version="1", digest="sha256:1", arm="a1", serving=SPEC, wished="a1")
    return ModelRollout(metadata=Metadata(name=name), spec=spec)


@pytest.fixture
def records(tmp_path: Path) -> FileRecords:
    return FileRecords(tmp_path / "records")


def test_what_was_written_is_read_by_another_process_of_ours(records, tmp_path):
    written = records.write(wish())
    assert FileRecords(tmp_path / "records").deployment("default/digits") == written
    assert records.keys() == ("default/digits",)


def test_nothing_is_there_before_the_first_write(records):
    assert records.keys() == ()
    assert records.deployment("default/digits") is None
    assert records.rollouts("default/digits") == ()


def test_a_write_on_an_old_version_is_refused_and_changes_nothing(records):
    """kopf #1178: an update was lost when two handlers met."""
    first = records.write(wish())
    second = records.write(replace(first, spec=replace(SPEC, replicas=2)))
    with pytest.raises(Conflict, match="not"):
        records.write(replace(first, spec=replace(SPEC, replicas=3)))
    assert records.deployment("default/digits") == second


def test_making_what_exists_is_refused(records):
    records.write(wish())
    with pytest.raises(Conflict, match="exists already"):
        records.write(wish())


def test_writing_what_was_deleted_is_refused(records):
    written = records.write(wish())
    records.delete(written)
    records.delete(written)
    with pytest.raises(Conflict, match="deleted"):
        records.write(written)


def test_a_record_made_anew_never_gets_a_version_that_it_had(records):
    old = records.write(wish())
    records.delete(old)
    new = records.write(wish())
    assert new.metadata.resource_version != old.metadata.resource_version
    with pytest.raises(Conflict):
        records.write(replace(old, spec=replace(SPEC, replicas=9)))


def test_the_generation_grows_with_the_spec_and_not_with_the_status(records):
    first = records.write(wish())
    second = records.write(replace(first, spec=replace(SPEC, replicas=2)))
    third = records.write(replace(second, status=DeploymentStatus(rollout="digits-00001")))
    assert [r.metadata.generation for r in (first, second, third)] == [1, 2, 2]


def test_what_is_already_so_is_not_written(records, tmp_path):
    first = records.write(wish())
    file = next((tmp_path / "records").rglob("digits.json"))
    before = file.stat().st_mtime_ns
    assert records.write(first) == first
    assert file.stat().st_mtime_ns == before


def test_spec_and_status_are_never_changed_in_one_write(records):
    first = records.write(wish())
    both = replace(first, spec=replace(SPEC, replicas=2), status=DeploymentStatus(rollout="x"))
    with pytest.raises(BadInput, match="in one write"):
        records.write(both)
    with pytest.raises(BadInput, match="is new and has a status"):
        records.write(replace(attempt("digits-00001"), status=RolloutStatus(phase=Phase.STARTING)))


def test_attempts_come_oldest_first_and_only_those_of_the_deployment(records):
    for name in ("digits-00010", "digits-00009", "digits-100000"):
        records.write(attempt(name))
    records.write(attempt("other-00001", deployment="other"))
    names = [rollout.metadata.name for rollout in records.rollouts("default/digits")]
    assert names == ["digits-00009", "digits-00010", "digits-100000"]


@pytest.mark.parametrize("name", ["a/b", "a:b", "../up", ".hidden", "", "a b", "a\0b"])
def test_a_name_that_cannot_be_a_file_is_refused_and_nothing_is_written(records, tmp_path, name):
    with pytest.raises(BadInput, match="cannot be used"):
        records.write(wish(name))
    with pytest.raises(BadInput, match="cannot be used"):
        records.write(wish(namespace=name or "/"))
    assert not list(tmp_path.rglob("*.json"))


def test_a_damaged_file_is_named(records, tmp_path):
    records.write(wish())
    file = next((tmp_path / "records").rglob("digits.json"))
    file.write_text('{"kind": "ModelDepl')
    with pytest.raises(BadInput, match=str(file)):
        records.deployment("default/digits")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "records").write_text("a file where a folder belongs")
    with pytest.raises(BadInput, match="in the way"):
        FileRecords(tmp_path / "records").write(wish())


def count(folder: Path, times: int) -> None:
    records = FileRecords(folder)
    done = 0
    while done < times:
        now = records.deployment("default/digits")
        try:
            records.write(replace(now, spec=replace(now.spec, replicas=now.spec.replicas + 1)))
            done += 1
        except Conflict:
            pass


def test_no_change_is_lost_between_processes_and_threads(records, tmp_path):
    records.write(wish())
    folder = tmp_path / "records"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=count, args=(folder, 15)) for _ in range(2)]
    workers += [threading.Thread(target=count, args=(folder, 15)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    last = records.deployment("default/digits")
    assert (last.spec.replicas, last.metadata.generation) == (61, 61)
