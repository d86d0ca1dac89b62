"""Checkpoints that are written beside the training."""

import threading

import pytest
import torch

from modelyard.errors import StageFailed
from modelyard.training import checkpoint
from modelyard.training.writing import Writer


def read(folder):
    return checkpoint.latest(folder).tensors(lambda _name: None)["model.a"]


def test_what_is_written_is_what_was_there_when_writing_began(tmp_path, monkeypatch):
    held, save = threading.Event(), checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *a, **k: held.wait(30) and save(*a, **k))
    writer, value = Writer(tmp_path, keep=2, beside=True), torch.ones(3)
    writer.write({"model.a": value}, {}, step=1)
    value.zero_()  # training went on
    assert checkpoint.latest(tmp_path) is None
    held.set()
    writer.finish()
    assert torch.equal(read(tmp_path), torch.ones(3))


def test_the_next_checkpoint_waits_for_the_one_before(tmp_path):
    writer = Writer(tmp_path, keep=5, beside=True)
    for step in range(1, 6):
        writer.write({"model.a": torch.full((2,), float(step))}, {}, step=step)
    writer.finish()
    assert [int(path.name.split("-")[1]) for path in sorted(tmp_path.iterdir())] == [1, 2, 3, 4, 5]
    assert torch.equal(read(tmp_path), torch.full((2,), 5.0))


@pytest.mark.parametrize("beside", [True, False])
def test_a_weight_that_is_nan_is_never_written_and_is_told_at_the_latest_by_the_next(tmp_path, beside):
    writer = Writer(tmp_path, keep=2, beside=beside)

    def write_two() -> None:
        writer.write({"model.a": torch.tensor([float("nan")])}, {}, step=1)
        writer.write({"model.a": torch.zeros(1)}, {}, step=2)

    with pytest.raises(StageFailed, match="Weight a became NaN"):
        write_two()
    assert checkpoint.latest(tmp_path) is None
