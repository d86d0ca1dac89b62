"""What a pod's own programs do without a training: fetch and verify, count starts, keep and restore checkpoints."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.training.launching import job_in

from modelyard.errors import Tampered
from modelyard.storage.folder import FolderStore
from modelyard.training import fetch, shipping
from modelyard.training.failures import Fate
from modelyard.training.job import TrainJob
from modelyard.training.node import Node

NAME = "train-digits-a1"


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    return job_in(tmp_path / "made", restarts=2)


@pytest.fixture
def store(tmp_path: Path, job: TrainJob) -> FolderStore:
    made = FolderStore(tmp_path / "store")
    shipping.publish(job, made, NAME)
    return made


def fetched(store: FolderStore, job: TrainJob, into: Path, **changes: str) -> tuple[int, dict[str, str]]:
    log = into.parent / "termination-log"
    log.touch()
    given = {
        "store": store.uri, "training": NAME, "digest": shipping.key_of(job), "modelyard": fetch.version("modelyard"),
        "into": str(into), "patience": "0", "termination-log": str(log), **changes,
    }  # fmt: skip
    code = fetch.main([f"--{name}={value}" for name, value in given.items()])
    return code, json.loads(log.read_text() or "{}")


def test_what_is_fetched_is_what_was_sent_and_shards_stay_where_they_are(
    store: FolderStore, job: TrainJob, tmp_path: Path
) -> None:
    assert fetched(store, job, tmp_path / "job") == (0, {})
    assert (tmp_path / "job" / "code" / job.code_digest[7:] / "recipe.py").is_file()
    prepared = json.loads((tmp_path / "job" / "data" / "prepared.json").read_text())
    assert prepared["location"] == f"{store.uri}/data/{job.data_fingerprint[7:]}"
    assert not list((tmp_path / "job" / "data").glob("*.arrow"))


@pytest.mark.parametrize(
    ("changes", "code", "kind", "said"),
    [
        ({"modelyard": "0.0.1"}, 78, "BadInput", "the training was started by 0.0.1"),
        ({"digest": "sha256:other"}, 65, "Tampered", "has digest sha256:"),
        ({"training": "train-none"}, 2, "BadInput", "There is no file"),
    ],
    ids=["another version", "another job", "no job"],
)
def test_what_it_refuses_stands_in_the_pod_s_status(
    *, changes: dict[str, str], code: int, kind: str, said: str, store: FolderStore, job: TrainJob, tmp_path: Path
) -> None:
    found, report = fetched(store, job, tmp_path / "job", **changes)
    assert (found, report["kind"]) == (code, kind)
    assert said in report["what"]


def test_publishing_twice_writes_once(store: FolderStore, job: TrainJob) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}
    shipping.publish(replace(job, data=job.data), store, NAME)
    assert before == {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}


def node(store: FolderStore, tmp_path: Path) -> Node:
    return Node(name=NAME, attempt="x", store=store, job=tmp_path / "job", out=tmp_path / "out", claim=None, rank="0")


def test_a_node_that_was_started_too_often_ends_the_job(store: FolderStore, job: TrainJob, tmp_path: Path) -> None:
    """kubeflow/trainer #2045: ExitCode ignores backoffLimit, and would start it for ever."""
    fetched(store, job, tmp_path / "job")
    (store.folder / "trainings" / NAME / "starts-x-0.json").write_text(json.dumps({"starts": 3}))
    code, end = node(store, tmp_path).run()
    assert (code, end.fate) == (1, Fate.PERMANENT)
    assert end.what == "This node was started 3 times and never finished"


def checkpoint(folder: Path, step: int) -> Path:
    made = folder / f"step-{step:010d}"
    (made / "tensors").mkdir(parents=True)
    (made / "tensors" / ".metadata").write_text(str(step))
    (made / "state.json").write_text(json.dumps({"step": step}))
    return made


def test_the_newest_whole_checkpoint_is_restored(store: FolderStore, tmp_path: Path) -> None:
    for step in (5, 10, 15):
        shipping.save_checkpoint(checkpoint(tmp_path / "old", step), store, NAME)
    (store.folder / "trainings" / NAME / "checkpoints" / "step-0000000015" / "state.json").unlink()  # cut off
    assert shipping.restore_checkpoint(store, NAME, tmp_path / "new") == "step-0000000010"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["step-0000000010"]
    assert (tmp_path / "new" / "step-0000000010" / "tensors" / ".metadata").read_text() == "10"


def test_without_a_checkpoint_there_is_nothing_to_restore(store: FolderStore, tmp_path: Path) -> None:
    assert shipping.restore_checkpoint(store, NAME, tmp_path / "new") is None


def test_a_result_is_whole_or_not_there(store: FolderStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("a")
    assert shipping.collect(store, NAME, tmp_path / "home") is False
    shipping.hand_in(out, store, NAME, {"a.txt": out / "a.txt"})
    assert shipping.collect(store, NAME, tmp_path / "home") is True
    (store.folder / "trainings" / NAME / "result" / "a.txt").write_text("b")
    with pytest.raises(Tampered):
        shipping.collect(store, NAME, tmp_path / "elsewhere")


def test_a_result_that_leads_out_of_its_folder_is_refused(store: FolderStore, tmp_path: Path) -> None:
    result = store.folder / "trainings" / NAME / "result"
    result.mkdir(parents=True)
    (result / "done.json").write_text(json.dumps({"../../evil": "sha256:a"}))
    with pytest.raises(Tampered, match="evil"):
        shipping.collect(store, NAME, tmp_path / "home")
