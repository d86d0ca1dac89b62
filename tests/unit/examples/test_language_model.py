"""The example of a language model: its file, its text, its recipe."""

import torch
from tests.fakes.language import EXAMPLE, language_job, text_data
from tests.fakes.trainings import train_here

from modelyard.data.prepared import load_prepared
from modelyard.model.recipe import Facts, recipe_in
from modelyard.spec.parse import parse_project


def test_its_file_can_be_used():
    train = parse_project(EXAMPLE / "modelyard.yaml").train
    assert (train.strategy.type, train.strategy.tensor_parallel, train.global_batch_size) == ("FSDP2", 2, 64)


def test_it_learns_and_answers_with_the_character_that_follows(tmp_path):
    data = text_data(tmp_path)
    trainer, trained = train_here(language_job(data, tmp_path, epochs=4, checkpoint_every=100), tmp_path)
    assert trained.epochs[-1].train_loss < trained.epochs[0].train_loss
    with recipe_in(EXAMPLE, "recipe.py:CharacterModel", {}, Facts.from_json(load_prepared(data).facts)) as recipe:
        tokens = recipe.example({"context": "a text that is longer than what the model can see"}, train=False, rng=None)
        assert tokens["tokens"].shape == (32,)
        (answer,) = recipe.predict(trainer.model(tokens["tokens"][None]))
        assert len(answer["probabilities"]) == len(recipe.facts.classes)


def test_what_follows_a_place_changes_nothing_before_it(tmp_path):
    data = text_data(tmp_path)
    with recipe_in(EXAMPLE, "recipe.py:CharacterModel", {}, Facts.from_json(load_prepared(data).facts)) as recipe:
        model, tokens = recipe.model(), torch.zeros(1, 32, dtype=torch.long)
        before = model(tokens)
        tokens[0, 20:] = 1
        torch.testing.assert_close(model(tokens)[0, :20], before[0, :20])
