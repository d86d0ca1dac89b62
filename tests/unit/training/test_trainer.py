"""The loop, alone in this process."""

import json
import math
from dataclasses import replace

import pytest
import torch
from tests.fakes.trainings import RECIPE, job_of, train_here

from modelyard.errors import BadInput, StageFailed
from modelyard.model.recipe import RecipeError
from modelyard.spec.metrics import OwnMetric
from modelyard.spec.train import EarlyStopping, Optimizer, Schedule, TrainResources
from modelyard.units import Percentage


def weights_of(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_makes_the_loss_smaller_and_tells_each_epoch(data, tmp_path):
    trainer, trained = train_here(job_of(data, tmp_path, epochs=4), tmp_path)
    losses = [curve.validation_loss for curve in trained.epochs]
    assert losses[-1] < losses[0]
    assert [curve.epoch for curve in trained.epochs] == [1, 2, 3, 4]
    assert trained.epochs[-1].validation_metrics["accuracy"] > 0.5
    events = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3, 4]
    assert trained.steps == 4 * round(len(trainer.feed) / 8)


def test_the_same_job_gives_the_same_bits(data, tmp_path):
    one, _ = train_here(job_of(data, tmp_path / "a", epochs=1), tmp_path / "a")
    torch.rand(7)
    other, _ = train_here(job_of(data, tmp_path / "b", epochs=1), tmp_path / "b")
    assert equal(weights_of(one), weights_of(other))


def test_another_seed_gives_other_weights(data, tmp_path):
    one, _ = train_here(job_of(data, tmp_path / "a", epochs=1, seed=1), tmp_path / "a")
    other, _ = train_here(job_of(data, tmp_path / "b", epochs=1, seed=2), tmp_path / "b")
    assert not equal(weights_of(one), weights_of(other))


def test_loader_workers_change_no_bit(data, tmp_path):
    one, _ = train_here(job_of(data, tmp_path / "a", epochs=1), tmp_path / "a")
    resources = TrainResources(loader_workers=2)
    other, _ = train_here(job_of(data, tmp_path / "b", epochs=1, resources=resources), tmp_path / "b")
    assert equal(weights_of(one), weights_of(other))


def test_four_small_steps_accumulated_are_one_big_step(data, tmp_path):
    plain = {"use": "recipe.py:Linear", "epochs": 1, "optimizer": Optimizer(name="sgd", lr=0.1)}
    small, few = train_here(job_of(data, tmp_path / "a", batch_size=4, accumulate=4, **plain), tmp_path / "a")
    big, many = train_here(job_of(data, tmp_path / "b", batch_size=16, **plain), tmp_path / "b")
    assert few.steps == many.steps
    for name, value in weights_of(small).items():
        torch.testing.assert_close(value, weights_of(big)[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "SGD", "rmsprop", "Adagrad", "nadam", "lbfgs", "Adafactor", "ASGD", "rprop"])
def test_an_optimizer_of_torch_by_name_trains(data, tmp_path, name):
    options = {"line_search_fn": "strong_wolfe", "max_iter": 3} if name == "lbfgs" else {}
    optimizer = Optimizer(name=name, lr=0.02, options=options)
    job = job_of(data, tmp_path, use="recipe.py:Linear", epochs=2, batch_size=32, optimizer=optimizer)
    _, trained = train_here(job, tmp_path)
    assert trained.epochs[-1].train_loss < trained.epochs[0].train_loss


RESUMED = {
    "adamw": {},
    "sgd": {"momentum": 0.9},
    "lbfgs": {"history_size": 3, "max_iter": 3},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_training_of_any_optimizer_ends_with_equal_bits(data, tmp_path, name):
    job = job_of(
        data, tmp_path, use="recipe.py:Linear", epochs=2, batch_size=32, checkpoint_every=3, keep_checkpoints=100,
        optimizer=Optimizer(name=name, lr=0.05, options=RESUMED[name]),
        schedule=Schedule(name="reducelronplateau", warmup=Percentage("20%"), options={"patience": 0}),
    )  # fmt: skip
    whole, expected = train_here(job, tmp_path)
    *_, last = sorted((tmp_path / "checkpoints").glob("step-*"))
    for later in sorted((tmp_path / "checkpoints").glob("step-*"))[1:]:
        later.rename(tmp_path / later.name)
    resumed, trained = train_here(job, tmp_path)
    assert equal(weights_of(whole), weights_of(resumed))
    assert trained.steps == expected.steps == int(last.name.split("-")[1])
    for one, other in zip(trained.epochs, expected.epochs, strict=True):
        assert replace(one, seconds=0) == replace(other, seconds=0)


def test_bf16_trains(data, tmp_path):
    _, trained = train_here(job_of(data, tmp_path, precision="bf16"), tmp_path)
    assert math.isfinite(trained.epochs[-1].train_loss)


def test_early_stopping_ends_and_keeps_the_best_epochs_weights(data, tmp_path):
    stopping = EarlyStopping(metric="accuracy", patience=2)
    job = job_of(data, tmp_path, epochs=40, early_stopping=stopping, optimizer=Optimizer(lr=0.01))
    trainer, trained = train_here(job, tmp_path)
    assert len(trained.epochs) < 40
    accuracies = [curve.validation_metrics["accuracy"] for curve in trained.epochs]
    assert trained.best_epoch == accuracies.index(max(accuracies)) + 1 == len(trained.epochs) - 2
    assert equal(weights_of(trainer), {**weights_of(trainer), **trainer.best})


def test_early_stopping_on_a_metric_that_is_not_measured_is_refused(data, tmp_path):
    job = job_of(data, tmp_path, early_stopping=EarlyStopping(metric="auroc"))
    with pytest.raises(BadInput, match=r"auroc.*is not measured.*loss, accuracy"):
        train_here(job, tmp_path)


def test_early_stopping_follows_a_metric_of_the_recipe(data, tmp_path):
    source = RECIPE + (
        "\n\nclass Own(Recipe):\n"
        "    def metrics(self):\n"
        "        return {'misses': lambda found, labels: sum(p['prediction'] != l for p, l in zip(found, labels))}\n"
    )
    job = job_of(data, tmp_path, source=source, use="recipe.py:Own", early_stopping=EarlyStopping(metric="misses"))
    job = replace(job, metrics={"misses": OwnMetric(better="lower")})
    _, trained = train_here(job, tmp_path)
    misses = [curve.validation_metrics["misses"] for curve in trained.epochs]
    assert trained.best_epoch == misses.index(min(misses)) + 1


def test_a_loss_that_becomes_nan_stops_with_step_and_example_ids(data, tmp_path):
    source = RECIPE + (
        "\n\nclass Bad(Recipe):\n"
        "    seen = 0\n"
        "    def loss(self, outputs, batch):\n"
        "        Bad.seen += 1\n"
        "        return Recipe.loss(self, outputs, batch) * (float('nan') if Bad.seen == 9 else 1)\n"
    )
    job = job_of(data, tmp_path, source=source, use="recipe.py:Bad", checkpoint_every=1)
    with pytest.raises(
        StageFailed, match=r"loss became nan at step 8 \(epoch 1\), in the batch with examples \w+, \w+"
    ):
        train_here(job, tmp_path)
    assert (tmp_path / "checkpoints" / "step-0000000007").is_dir()


def test_a_gradient_that_becomes_infinite_stops_before_it_touches_weights(data, tmp_path):
    source = RECIPE + (
        "\n\nclass Bad(Linear):\n"
        "    def loss(self, outputs, batch):\n"
        "        return outputs.sum() * 0 + (outputs - outputs.detach()).abs().sum().sqrt()\n"
    )
    job = job_of(data, tmp_path, source=source, use="recipe.py:Bad", clip_norm=1.0)
    with pytest.raises(StageFailed, match="gradient's norm became"):
        train_here(job, tmp_path)


def test_label_smoothing_that_the_loss_does_not_take_is_refused(data, tmp_path):
    """A field that cannot act must be refused (kserve #4074)."""
    job = job_of(data, tmp_path, use="recipe.py:Linear", label_smoothing=0.1)
    with pytest.raises(RecipeError, match="takes no label_smoothing"):
        train_here(job, tmp_path)


def test_label_smoothing_reaches_the_loss_in_training_only(data, tmp_path):
    source = RECIPE + (
        "\n\nclass Watched(Recipe):\n"
        "    seen = set()\n"
        "    def loss(self, outputs, batch, label_smoothing=0.0):\n"
        "        Watched.seen.add((outputs.requires_grad, label_smoothing))\n"
        "        return Recipe.loss(self, outputs, batch, label_smoothing)\n"
    )
    job = job_of(data, tmp_path, source=source, use="recipe.py:Watched", label_smoothing=0.1, epochs=1)
    trainer, _ = train_here(job, tmp_path)
    assert type(trainer.loaded.recipe).seen == {(True, 0.1), (False, 0.0)}


def test_the_recipes_own_optimizer_and_dataset_are_used(data, tmp_path):
    source = RECIPE + (
        "\n\nclass Own(Linear):\n"
        "    def optimizer(self, params):\n"
        "        self.made = torch.optim.SGD(params, lr=0.123)\n"
        "        return self.made\n"
        "    def dataset(self, split):\n"
        "        if split != 'train':\n"
        "            return None\n"
        "        return [{'image': torch.full((1, 8, 8), float(i % 4)), 'label': i % 4} for i in range(40)]\n"
    )
    trainer, trained = train_here(job_of(data, tmp_path, source=source, use="recipe.py:Own"), tmp_path)
    assert trainer.optimizer is trainer.loaded.recipe.made
    assert trained.steps == 2 * 5
    assert trained.epochs[-1].validation_loss is not None


def test_a_loss_that_does_not_depend_on_the_model_is_refused(data, tmp_path):
    source = RECIPE + "\n\nclass Bad(Linear):\n    def loss(self, outputs, batch):\n        return torch.tensor(1.0)\n"
    with pytest.raises(RecipeError, match="does not depend on the model"):
        train_here(job_of(data, tmp_path, source=source, use="recipe.py:Bad"), tmp_path)


def test_too_little_data_for_the_processes_is_refused(data, tmp_path):
    source = RECIPE + "\n\nclass Own(Linear):\n    def dataset(self, split):\n        return []\n"
    with pytest.raises(BadInput, match="0 examples"):
        train_here(job_of(data, tmp_path, source=source, use="recipe.py:Own"), tmp_path)
