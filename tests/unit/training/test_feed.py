"""Batches."""

import numpy as np
import pytest
import torch
from tests.fakes.trainings import RECIPE, job_of, small_data

from modelyard.data.prepared import load_prepared
from modelyard.data.shards import SplitReader
from modelyard.model.recipe import Facts, RecipeError, recipe_in
from modelyard.training import plan
from modelyard.training.feed import Feed, _Fetch


@pytest.fixture
def feed_of(data, tmp_path):
    facts = Facts.from_json(load_prepared(data).facts)
    opened = []

    def make(use: str, source: str = RECIPE, **arguments) -> Feed:
        job_of(data, tmp_path, source=source)
        context = recipe_in(tmp_path / "source", f"recipe.py:{use}", {}, facts)
        opened.append(context)
        return Feed(context.__enter__(), data, "train", seed=3, **arguments)

    yield make
    for context in opened:
        context.__exit__(None, None, None)


@pytest.mark.parametrize("window", [1, 4, 100])
def test_shards_held_as_tensors_give_the_bits_of_each_batch_transformed(feed_of, data, monkeypatch, window):
    monkeypatch.setattr("modelyard.training.held.WINDOW", window)
    feed = feed_of("Linear")
    assert feed._held is not None
    reader = SplitReader(data, "train")
    assert len(reader.lengths) > 4
    for places in plan.batches(feed.lengths, seed=0, epoch=0, world=1, size=50):
        held, plain = feed.batch(0, places[0]), feed.loaded.batch(reader.take(places[0]))
        assert held.keys() == plain.keys()
        assert held["id"] == plain["id"]
        assert torch.equal(held["image"], plain["image"])
        assert torch.equal(held["label"], plain["label"])


def test_shards_too_large_to_hold_are_read_batch_by_batch(feed_of, data, monkeypatch):
    monkeypatch.setattr("modelyard.training.held.HELD_BYTES", 100)
    feed = feed_of("Linear")
    assert feed._held is None
    assert feed.batch(0, np.arange(4))["image"].shape == (4, 1, 8, 8)


def test_held_memory_is_bounded_by_the_window(feed_of, data):
    feed = feed_of("Linear")
    for places in plan.batches(feed.lengths, seed=0, epoch=0, world=1, size=8):
        feed.batch(0, places[0])
        assert len(feed._held._held) <= plan.WINDOW


def test_an_augmentation_depends_on_seed_epoch_and_example_alone(feed_of):
    feed = feed_of("Recipe")
    one = feed.batch(2, np.array([5, 9, 30]))
    other = feed.batch(2, np.array([9]))
    assert torch.equal(one["image"][1], other["image"][0])
    assert not torch.equal(feed.batch(3, np.array([9]))["image"], other["image"])


def test_workers_send_no_tensor_through_shared_memory(feed_of):
    """`/dev/shm` is too small for loader workers in most containers (kubeflow/pipelines #9893)."""
    packed = _Fetch(feed_of("Recipe"), 0)[np.arange(3)]
    assert {type(value) for value in packed.values()} == {np.ndarray, list}


def test_a_mistake_in_a_worker_is_told_as_it_is(feed_of):
    source = RECIPE + "\n\nclass Bad(Linear):\n    def example(self, row, *, train, rng): return 1 / 0\n"
    feed = feed_of("Bad", source, workers=1)
    with pytest.raises(RecipeError, match=r"recipe\.py:Bad\.example raised ZeroDivisionError.*recipe\.py, line"):
        list(feed.batches(0, [np.arange(3)]))


def test_workers_keep_the_order_of_the_plan(feed_of):
    groups = [np.array([3, 1]), np.array([2]), np.array([9, 8, 7])]
    alone = [batch["id"] for batch in feed_of("Recipe").batches(0, groups)]
    assert [batch["id"] for batch in feed_of("Recipe", workers=2).batches(0, groups)] == alone


def test_the_global_generator_does_not_see_the_loader(feed_of):
    feed = feed_of("Recipe", workers=1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(feed.batches(0, [np.arange(2)]))
    assert torch.equal(before, torch.get_rng_state())


def test_a_dataset_whose_items_are_no_dicts_is_refused(feed_of):
    source = RECIPE + "\n\nclass Bad(Linear):\n    def dataset(self, split): return [(1, 2)]\n"
    with pytest.raises(RecipeError, match=r"dataset gives tuple at 0"):
        feed_of("Bad", source).batch(0, np.array([0]))


def test_reading_needs_no_pandas(tmp_path):
    """Its import takes half a second in every process."""
    import subprocess
    import sys

    folder = small_data(tmp_path)
    code = (
        "import sys, pathlib; from modelyard.data.shards import SplitReader\n"
        "SplitReader(pathlib.Path(sys.argv[1]), 'train').take([1, 2])\n"
        "assert 'pandas' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=60)
