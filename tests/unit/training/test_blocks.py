"""Blocks of a model, computed again and compiled."""

import pytest
import torch
from tests.fakes.trainings import RECIPE, job_of, train_here
from torch import nn

from modelyard.errors import BadInput
from modelyard.model.recipe import RecipeError
from modelyard.spec.train import TrainStrategy
from modelyard.training.blocks import blocks

STACKED = (
    RECIPE
    + """

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1)) for _ in range(3))
        self.head = nn.Linear(64, 4)
        self.calls = 0

    def forward(self, image):
        x = image.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Stacked(Linear):
    def model(self):
        return Net()


class Breaking(Linear):
    def model(self):
        class Broken(Net):
            def forward(self, image):
                print("what no graph can hold")
                return self.head(image.flatten(1))

        net = Broken()
        del net.layers
        return net
"""
)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)]))
        self.decoder = nn.ModuleList([nn.Sequential(nn.ModuleList([nn.Linear(2, 2)]))])


def test_blocks_are_the_members_of_the_outermost_lists_that_have_parameters():
    model = Two()
    assert blocks(model) == [model.encoder[1][0], model.encoder[1][2], model.decoder[0]]
    assert blocks(nn.Linear(2, 2)) == []


def test_blocks_that_are_computed_again_change_no_bit_not_even_under_dropout(data, tmp_path):
    ended = []
    for name, strategy in (("plain", TrainStrategy()), ("again", TrainStrategy(activation_checkpointing=True))):
        job = job_of(
            data, tmp_path / name, source=STACKED, use="recipe.py:Stacked", epochs=1, batch_size=32, strategy=strategy
        )
        trainer, _ = train_here(job, tmp_path / name)
        ended.append(trainer.model.state_dict())
    assert all(torch.equal(value, ended[1][name]) for name, value in ended[0].items())


def test_where_there_are_no_blocks_nothing_can_be_computed_again(data, tmp_path):
    strategy = TrainStrategy(activation_checkpointing=True)
    with pytest.raises(BadInput, match=r"activationCheckpointing cannot act: the model has no nn\.ModuleList"):
        train_here(job_of(data, tmp_path, use="recipe.py:Linear", strategy=strategy), tmp_path)


def test_a_model_that_does_not_compile_whole_is_refused_and_not_half_compiled(data, tmp_path):
    job = job_of(data, tmp_path, source=STACKED, use="recipe.py:Breaking", strategy=TrainStrategy(compile=True))
    with pytest.raises(RecipeError, match=r"train\.strategy\.compile: .* cannot be compiled whole"):
        train_here(job, tmp_path)


@pytest.mark.parametrize(
    ("strategy", "world"),
    [(TrainStrategy(type="Recipe"), 1), (TrainStrategy(type="FSDP2", tensor_parallel=2), 2)],
    ids=["type: Recipe", "tensorParallel: 2"],
)
def test_a_recipe_without_parallelize_cannot_spread_its_model(data, tmp_path, strategy, world):
    with pytest.raises(BadInput, match=r"recipe\.py:Recipe has no parallelize"):
        train_here(job_of(data, tmp_path, strategy=strategy), tmp_path, world=world)


def test_a_model_that_has_nothing_to_learn_is_refused(data, tmp_path):
    source = RECIPE + "\n\nclass Empty(Linear):\n    def model(self): return nn.Flatten()\n"
    with pytest.raises(BadInput, match="model has no parameters"):
        train_here(job_of(data, tmp_path, source=source, use="recipe.py:Empty"), tmp_path)


@pytest.mark.parametrize("changes", [{"global_batch_size": 10_000}, {"global_batch_size": 8, "accumulate": 2}])
def test_updates_that_cannot_be_had_are_refused(data, tmp_path, changes):
    with pytest.raises(BadInput, match=r"train\.globalBatchSize"):
        train_here(job_of(data, tmp_path, **changes), tmp_path)
