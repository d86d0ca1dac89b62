"""The seam for what we have no strategy for: the recipe spreads its model itself."""

import pytest
from safetensors.torch import load_file
from tests.fakes.trainings import RECIPE, job_of, with_resources
from tests.integration.training.running import finished

from modelyard.spec.train import TrainStrategy

pytestmark = pytest.mark.process

SHARDED = (
    RECIPE
    + """

class Sharded(Linear):
    def model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))

    def parallelize(self, model, mesh):
        from torch.distributed.fsdp import fully_shard

        return fully_shard(model, mesh=mesh)
"""
)


def test_a_model_sharded_by_the_recipe_trains_resumes_and_is_saved_whole(data, start, tmp_path):
    job = job_of(
        data,
        tmp_path,
        source=SHARDED,
        use="recipe.py:Sharded",
        checkpoint_every=2,
        clip_norm=1.0,
        accumulate=2,
        strategy=TrainStrategy(type="Recipe"),
    )
    job = with_resources(job, processes_per_node=2)
    unbroken = start(job, tmp_path / "unbroken")
    assert unbroken.until_ended() == {}, (tmp_path / "unbroken" / "train.log").read_text()[-4000:]
    expected = finished(tmp_path / "unbroken")
    assert load_file(tmp_path / "unbroken" / "model.safetensors")["1.weight"].shape == (32, 64)
    assert expected["epochs"][-1]["trainLoss"] < expected["epochs"][0]["trainLoss"]
    first = start(job, tmp_path / "broken")
    first.until_step(4)
    first.kill()
    second = start(job, tmp_path / "broken")
    assert second.until_ended() == {}
    assert finished(tmp_path / "broken")["digest"] == expected["digest"]
