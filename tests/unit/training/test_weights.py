"""Weights in and out."""

import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fakes.trainings import RECIPE, job_of, train_here
from torch import nn

from modelyard.errors import BadInput, StageFailed, Tampered
from modelyard.spec.train import Initialize
from modelyard.storage.atomic import digest_file
from modelyard.training import weights
from modelyard.training.job import Weights


def net() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    return model


def test_weights_that_were_saved_begin_another_training(tmp_path):
    path = tmp_path / "w.safetensors"
    digest = weights.save_weights(weights.whole(net()), path)
    fresh = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    origin = weights.initialize(fresh, Initialize(from_=str(path)), None)
    assert origin.digest == digest == digest_file(path)
    assert torch.equal(fresh[0].weight, net()[0].weight)
    assert origin.skipped == ()


def test_a_model_folder_may_be_named_too(tmp_path):
    weights.save_weights(weights.whole(net()), tmp_path / "model.safetensors")
    assert weights.initialize(net(), Initialize(from_=str(tmp_path)), None).digest.startswith("sha256:")


def test_strict_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    path = tmp_path / "w.safetensors"
    tensors = {name: value for name, value in net().state_dict().items() if name != "2.bias"}
    save_file({**tensors, "strange": torch.zeros(1), "0.weight": torch.zeros(7, 7)}, path)
    with pytest.raises(BadInput, match=r"lacks 2\.bias; does not know strange; has other shapes: 0\.weight \(7, 7\)"):
        weights.initialize(net(), Initialize(from_=str(path)), None)


def test_without_strict_what_fits_is_taken_and_the_rest_is_told(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"0.bias": torch.full((3,), 9.0), "2.weight": torch.zeros(5, 5)}, path)
    model = net()
    origin = weights.initialize(model, Initialize(from_=str(path), strict=False), None)
    assert torch.equal(model[0].bias, torch.full((3,), 9.0))
    assert {"2.weight", "0.weight"} <= set(origin.skipped)
    assert "0.bias" not in origin.skipped


def _torch_save(path):
    torch.save(net().state_dict(), path)


def _pickled(path):
    path.write_bytes(pickle.dumps({"a": 1}))


def _cut(path):
    weights.save_weights(weights.whole(net()), path)
    path.write_bytes(path.read_bytes()[:-8])


BAD_FILES = {
    "a torch.save archive": (_torch_save, "pickle"),
    "a pickle under another name": (_pickled, "pickle"),
    "an empty file": (lambda path: path.touch(), "not safetensors"),
    "a file cut short": (_cut, "no whole safetensors file"),
    "a missing file": (lambda path: None, "there is no file"),
}


@pytest.mark.parametrize(("make", "told"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_what_is_no_safetensors_file_is_refused_by_its_bytes(tmp_path, make, told):
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(BadInput, match=told):
        weights.initialize(net(), Initialize(from_=str(path)), None)


def test_weights_with_another_digest_than_recorded_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save_weights(weights.whole(net()), path)
    with pytest.raises(Tampered, match="has digest"):
        weights.initialize(net(), Initialize(from_="models:/a/1"), Weights(path=str(path), digest="sha256:0"))


def test_tied_weights_are_written_under_each_name(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    weights.save_weights(weights.whole(model), tmp_path / "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    assert torch.equal(found["0.weight"], found["1.weight"])


def test_weights_that_are_not_contiguous_are_written(tmp_path):
    model = nn.Linear(3, 4)
    model.weight = nn.Parameter(torch.arange(12.0).reshape(3, 4).T)
    weights.save_weights(weights.whole(model), tmp_path / "w.safetensors")
    assert torch.equal(load_file(tmp_path / "w.safetensors")["weight"], model.weight)


def test_nan_weights_are_never_written(tmp_path):
    model = net()
    with torch.no_grad():
        model[2].bias[0] = float("nan")
    with pytest.raises(StageFailed, match=r"Weight 2\.bias became NaN"):
        weights.save_weights(weights.whole(model), tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


BAD_FREEZES = {
    "a prefix that names nothing": (("heda",), r"'heda' names no parameter \(nearest: head"),
    "half a name": (("hea",), "names no parameter"),
    "everything": (("features", "middle", "head"), "leaves no parameter"),
}


@pytest.mark.parametrize(("prefixes", "told"), BAD_FREEZES.values(), ids=BAD_FREEZES.keys())
def test_a_freeze_that_cannot_act_is_refused(data, tmp_path, prefixes, told):
    with pytest.raises(BadInput, match=told):
        train_here(job_of(data, tmp_path, freeze=prefixes), tmp_path)


def test_what_is_frozen_neither_changes_nor_is_optimized_nor_checkpointed(data, tmp_path):
    job = job_of(data, tmp_path, freeze=("features",), epochs=1)
    trainer, _ = train_here(job, tmp_path)
    torch.manual_seed(0)
    fresh = type(trainer.model)
    seeded, _ = train_here(job_of(data, tmp_path / "again", freeze=("features",), epochs=1), tmp_path / "again")
    own = trainer.model.state_dict()
    assert isinstance(trainer.model, fresh)
    assert torch.equal(own["features.1.running_mean"], torch.zeros(8)), "frozen statistics stay too"
    assert torch.equal(own["features.0.weight"], seeded.model.state_dict()["features.0.weight"])
    optimized = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not any(id(p) in optimized for name, p in trainer.model.named_parameters() if name.startswith("features"))
    assert not any(name.startswith("features") for name in trainer.resumable.tensors())


def test_fine_tuning_begins_with_the_given_weights_and_records_their_digest(data, tmp_path):
    first, _ = train_here(job_of(data, tmp_path / "a", epochs=3), tmp_path / "a")
    path = tmp_path / "w.safetensors"
    digest = weights.save_weights(weights.whole(first.model), path)
    tuned, trained = train_here(
        job_of(data, tmp_path / "b", epochs=1, initialize=Initialize(from_=str(path)), freeze=("features", "middle")),
        tmp_path / "b",
    )
    assert trained.origin.digest == digest
    assert torch.equal(tuned.model.state_dict()["features.0.weight"], first.model.state_dict()["features.0.weight"])
    assert trained.epochs[0].train_loss < 1.2


def test_resuming_with_other_frozen_weights_is_refused(data, tmp_path):
    first, _ = train_here(job_of(data, tmp_path / "a", epochs=1), tmp_path / "a")
    path = tmp_path / "w.safetensors"
    weights.save_weights(weights.whole(first.model), path)
    job = job_of(
        data, tmp_path / "b", epochs=1, initialize=Initialize(from_=str(path)), freeze=("features",), checkpoint_every=5
    )
    train_here(job, tmp_path / "b")
    with torch.no_grad():
        first.model.features[0].weight.add_(1)
    weights.save_weights(weights.whole(first.model), path)
    with pytest.raises(BadInput, match="other frozen weights"):
        train_here(job, tmp_path / "b")


def test_a_parameter_that_the_loss_does_not_use_is_no_error(data, tmp_path):
    source = RECIPE + (
        "\n\nclass Spare(Linear):\n"
        "    def model(self):\n"
        "        net = LinearNet()\n"
        "        net.spare = nn.Linear(2, 2)\n"
        "        return net\n"
    )
    _, trained = train_here(job_of(data, tmp_path, source=source, use="recipe.py:Spare", epochs=1), tmp_path)
    assert trained.steps
