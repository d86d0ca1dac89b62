"""The trainer on a GPU, where there is one."""

import pytest
import torch
from tests.fakes.language import language_job, text_data
from tests.fakes.trainings import train_here

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: training on one is NOT tested")


@pytest.mark.parametrize("changes", [{}, {"async_checkpoints": True}], ids=["plain", "checkpoints beside it"])
def test_a_gpu_comes_to_the_losses_of_the_cpu_and_goes_on_from_its_checkpoint(tmp_path, changes):
    data, device = text_data(tmp_path), torch.device("cuda")
    on_cpu = language_job(data, tmp_path / "cpu", checkpoint_every=50)
    expected = train_here(on_cpu, tmp_path / "cpu")[1]
    job = language_job(data, tmp_path / "gpu", **changes)
    trainer, trained = train_here(job, tmp_path / "gpu", device=device)
    assert next(trainer.model.parameters()).device.type == device.type
    for one, other in zip(trained.epochs, expected.epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-3)
    _, again = train_here(job, tmp_path / "gpu", device=device)
    assert again.epochs == trained.epochs, "all of it was in the last checkpoint"
