"""Checkpoints on the disk."""

import json
import os
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from tests.fakes.trainings import job_of, train_here

from modelyard.errors import BadInput, Tampered
from modelyard.training import checkpoint
from modelyard.training.checkpoint import put_together, take_apart


def saved(folder, step=3, keep=2):
    tensors = {"model.a": torch.arange(6.0).reshape(2, 3), "optimizer.step": torch.tensor(7.0)}
    checkpoint.save(folder, tensors, {"hello": 1}, step=step, keep=keep)
    return tensors


def test_what_was_saved_is_read_again_in_place_where_there_is_a_template(tmp_path):
    tensors = saved(tmp_path)
    template = torch.zeros(2, 3)
    found = checkpoint.latest(tmp_path)
    read = found.tensors({"model.a": template}.get)
    assert torch.equal(template, tensors["model.a"])
    assert read["model.a"] is template
    assert torch.equal(read["optimizer.step"], torch.tensor(7.0))
    assert found.state["hello"] == 1
    assert found.state["step"] == 3


def test_only_the_last_few_are_kept(tmp_path):
    for step in (1, 5, 20, 100):
        saved(tmp_path, step)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-0000000020", "step-0000000100"]


def test_no_checkpoint_is_no_error(tmp_path):
    assert checkpoint.latest(tmp_path / "nothing") is None


def test_a_half_written_checkpoint_is_never_seen_and_removed_by_the_next(tmp_path):
    saved(tmp_path, 1)
    shutil.copytree(tmp_path / "step-0000000001", tmp_path / ".step-0000000002.tmp")
    assert checkpoint.latest(tmp_path).state["step"] == 1
    saved(tmp_path, 3)
    assert not list(tmp_path.glob(".step*"))


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def change_byte(folder, _marker):
    path = next(folder.glob("tensors/*.distcp"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def crafted_metadata(folder, marker):
    trap = Trap()
    trap.path = marker
    (folder / "tensors" / ".metadata").write_bytes(pickle.dumps(trap))


DAMAGES = {
    "a changed byte": (change_byte, r"__0_0\.distcp is not what was written"),
    "a crafted .metadata, which is a pickle": (crafted_metadata, r"\.metadata is not what was written"),
    "a missing file": (lambda folder, _: (folder / "tensors" / ".metadata").unlink(), r"\.metadata is not"),
    "all tensors gone": (lambda folder, _: shutil.rmtree(folder / "tensors"), r"__0_0\.distcp is not"),
    "a file too many": (lambda folder, _: (folder / "tensors" / "x.distcp").write_bytes(b"x"), r"x\.distcp is not"),
    "a state that is no JSON": (
        lambda folder, _: (folder / "state.json").write_text("{"),
        r"state\.json cannot be read",
    ),
    "a state that is gone": (lambda folder, _: (folder / "state.json").unlink(), r"state\.json cannot be read"),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_refused_before_anything_of_it_is_opened(tmp_path, damage, told):
    saved(tmp_path / "c")
    damage(tmp_path / "c" / "step-0000000003", tmp_path / "marker")
    with pytest.raises(Tampered, match=told):
        checkpoint.latest(tmp_path / "c").tensors({}.get)
    assert not (tmp_path / "marker").exists()


def test_the_trap_would_spring(tmp_path):
    """The test above can fail: reading this pickle runs code."""
    trap = Trap()
    trap.path = tmp_path / "marker"
    pickle.loads(pickle.dumps(trap))
    assert (tmp_path / "marker").exists()


def test_a_state_is_taken_apart_and_put_together_again():
    state = {
        "state": {0: {"m": torch.ones(2), "list": [torch.zeros(1), 3]}},
        "groups": [{"betas": (0.9, 0.99), "x": None}],
    }
    tensors = {}
    data = json.loads(json.dumps(take_apart(state, "optimizer", tensors)))
    again = put_together(data, tensors)
    assert again["groups"] == state["groups"]
    assert list(again["state"]) == [0]
    assert torch.equal(again["state"][0]["list"][0], torch.zeros(1))


def test_a_checkpoint_of_another_training_is_refused(data, tmp_path):
    job = job_of(data, tmp_path, epochs=1, checkpoint_every=4)
    train_here(job, tmp_path)
    with pytest.raises(BadInput, match="belongs to another training"):
        train_here(replace(job, train=replace(job.train, seed=9)), tmp_path)


def test_a_checkpoint_of_other_threads_is_refused_unless_asked_for(data, tmp_path):
    job = job_of(data, tmp_path, epochs=2, checkpoint_every=4)
    train_here(job, tmp_path)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    state = json.loads((newest / "state.json").read_text())
    (newest / "state.json").write_text(json.dumps({**state, "threads": 4}))
    with pytest.raises(BadInput, match=r"1 processes of 4 threads, this run has 1 of 1.*otherWorld"):
        train_here(job, tmp_path)
    train_here(replace(job, other_world=True), tmp_path)


def test_a_checkpoint_of_two_processes_is_gone_on_from_by_one_when_asked_for(data, tmp_path):
    job = job_of(data, tmp_path, epochs=2, checkpoint_every=4)
    train_here(job, tmp_path)
    there = sorted((tmp_path / "checkpoints").glob("step-*"))
    state = json.loads((there[0] / "state.json").read_text())
    for later in there[1:]:
        shutil.rmtree(later)
    state |= {"world": 2, "sums": [[1.0, 8], [1.0, 8]]}
    (there[0] / "state.json").write_text(json.dumps(state))
    _, trained = train_here(replace(job, other_world=True), tmp_path)
    assert len(trained.epochs) == 2
