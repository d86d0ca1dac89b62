"""The families: what each makes, and what it refuses to make."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from modelyard.compression.build import calibration_places
from modelyard.compression.report import REFERENCE
from modelyard.compression.variants import VARIANTS, Source
from modelyard.compression.variants.source import first_line
from modelyard.errors import BadInput
from modelyard.spec.gates import VariantName

FAST = ["torchscript", "bf16"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class LooksAtSize(Net):
    def forward(self, image: Tensor) -> Tensor:
        outputs = self.layers(image)
        return outputs * 2 if len(image) > 2 else outputs


class Dicts(Net):
    def forward(self, image: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"logits": self.layers(image)}


class Nan(Net):
    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image) + image.mean() / (image.sum() * 0)


def source(module: nn.Module) -> Source:
    torch.manual_seed(0)
    return Source(module=module.eval(), inputs=("image",), calibration=({"image": torch.rand(8, 1, 8, 8)},))


def test_what_people_may_name_is_what_can_be_built():
    assert set(get_args(VariantName)) == {REFERENCE, *VARIANTS}


@pytest.mark.parametrize("name", FAST)
def test_a_program_answers_any_batch_as_the_model_does(name: str, tmp_path: Path):
    made = source(Net())
    VARIANTS[name].build(made, tmp_path / "program.ts")
    program = torch.jit.load(tmp_path / "program.ts")
    with torch.no_grad():
        for size in (1, 2, 5):
            images = torch.rand(size, 1, 8, 8)
            wanted, got = made.module(images), program(images)
            assert got.dtype == torch.float32
            assert torch.nn.functional.cosine_similarity(wanted.flatten(), got.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("name", FAST)
def test_building_leaves_the_model_as_it_was(name: str, tmp_path: Path):
    made = source(Net())
    before = {key: value.clone() for key, value in made.module.state_dict().items()}
    VARIANTS[name].build(made, tmp_path / "program.ts")
    after = made.module.state_dict()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("module", [LooksAtSize, Nan], ids=["looks at the batch's size", "answers NaN"])
def test_a_model_that_a_tracer_cannot_follow_is_refused_and_not_served_wrong(name: str, module, tmp_path: Path):
    with pytest.raises(ValueError, match="off by"):
        VARIANTS[name].build(source(module()), tmp_path / "program.ts")


def test_a_model_that_returns_no_single_tensor_is_refused(tmp_path: Path):
    with pytest.raises((ValueError, RuntimeError), match=r"not one tensor|dict"):
        VARIANTS["torchscript"].build(source(Dicts()), tmp_path / "program.ts")


def test_the_example_is_a_batch_of_two_even_where_one_row_is_all_there_is():
    lone = Source(module=Net(), inputs=("image",), calibration=({"image": torch.rand(1, 1, 8, 8)},))
    assert lone.example[0].shape == (2, 1, 8, 8)


def test_calibration_is_spread_over_the_split():
    places = calibration_places(10_000)
    assert len(places) == len(set(places)) == 256
    assert places[0] < 100
    assert places[-1] > 9_900
    assert calibration_places(3) == [0, 1, 2]
    assert calibration_places(0) == []


def test_a_reason_is_one_line_of_the_cause_without_colours():
    wrapped = RuntimeError("Failed to export. Next steps:")
    wrapped.__cause__ = TypeError("\x1b[96mno kernel\x1b[0m for this\nand much advice")
    assert first_line(wrapped) == "TypeError: no kernel for this"
    assert first_line(ValueError("off by 3")) == "off by 3"
    assert first_line(MemoryError()) == "MemoryError"
    assert first_line(BadInput("x is wrong", do="mend it")) == "x is wrong. Mend it."
