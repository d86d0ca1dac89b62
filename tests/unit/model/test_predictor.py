"""From rows and requests to predictions, whatever form the model has."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes.small_model import FACTS, code_archive, image_of, model_folder, request_of, weights
from torch import nn

from modelyard.model.facts import RecipeError, RequestError
from modelyard.model.predictor import FolderError, Predictor, write_model_folder
from modelyard.storage.code import pack


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)
        self.load_state_dict(weights())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.linear(image.flatten(1))


@pytest.fixture
def predictor(tmp_path: Path) -> Iterator[Predictor]:
    with Predictor.load(model_folder(tmp_path), work=tmp_path / "work") as loaded:
        yield loaded


def program(tmp_path: Path, kind: str) -> Path:
    """The same network in another form."""
    path, net, example = tmp_path / f"program.{kind}", Net().eval(), (torch.zeros(2, 1, 8, 8),)
    if kind == "torchscript":
        torch.jit.trace(net, example).save(str(path))
    elif kind == "exported":
        many = {0: torch.export.Dim("n", min=1, max=64)}
        path = path.with_suffix(".pt2")
        torch.export.save(torch.export.export(net, example, dynamic_shapes=(many,)), path)
    else:
        from onnx import TensorProto, helper, save

        values = {name: tensor.numpy() for name, tensor in weights().items()}
        nodes = [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "linear.weight", "linear.bias"], ["logits"], transB=1),
        ]
        tensors = [
            helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.ravel()) for name, value in values.items()
        ]
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])
        model = helper.make_model(
            helper.make_graph(nodes, "g", [image], [logits], tensors), opset_imports=[helper.make_opsetid("", 17)]
        )
        model.ir_version = 10
        save(model, path)
    return path


def test_rows_become_predictions_with_scores(predictor: Predictor) -> None:
    predictions = predictor.predict([{"image": image_of(third)} for third in (2, 0, 1)])
    assert [prediction["prediction"] for prediction in predictions] == [2, 0, 1]
    assert all(0.5 < prediction["score"] <= 1 for prediction in predictions)


@pytest.mark.parametrize("kind", ["torchscript", "exported", "onnx"])
def test_every_form_gives_the_outputs_of_the_eager_model(tmp_path: Path, predictor: Predictor, kind: Any) -> None:
    folder = tmp_path / kind
    write_model_folder(
        folder,
        kind=kind,
        model=program(tmp_path, kind),
        recipe={"use": "recipe.py:Thirds"},
        facts=FACTS,
        inputs=["image"],
        code=code_archive(tmp_path / "c"),
    )
    rows = [{"image": image_of(third)} for third in range(3)]
    with Predictor.load(folder, work=tmp_path / "work") as other:
        torch.testing.assert_close(other.outputs(rows), predictor.outputs(rows))
        torch.testing.assert_close(other.outputs(rows[:1]), predictor.outputs(rows[:1]))


def test_outputs_carry_no_gradients(predictor: Predictor) -> None:
    assert not predictor.outputs([{"image": image_of(0)}]).requires_grad


def test_no_rows_are_no_predictions(predictor: Predictor) -> None:
    assert predictor.predict([]) == []
    assert predictor.answers([]) == []


def test_a_request_is_answered_as_clients_read_it(predictor: Predictor) -> None:
    assert predictor.answer(request_of(1))["label"] == "middle"
    assert predictor.answer({"image": image_of(2).tolist()})["label"] == "right"


def test_one_bad_request_in_a_batch_fails_alone(tmp_path: Path) -> None:
    with Predictor.load(model_folder(tmp_path, "Moody"), work=tmp_path / "work") as moody:
        bright = {"image": image_of(0, brightness=999).tolist()}
        good = {"image": image_of(0).tolist()}
        left, no_image, too_bright, right, again = moody.answers(
            [good, {"imag": 1}, bright, {"image": image_of(2).tolist()}, good]
        )
    assert left == again == {"answer": "left"}
    assert isinstance(no_image, RequestError)
    assert isinstance(too_bright, ArithmeticError)
    assert isinstance(right, RecipeError)
    assert not isinstance(right, RequestError)


def test_an_answer_that_json_cannot_carry_is_an_error(tmp_path: Path) -> None:
    with (
        Predictor.load(model_folder(tmp_path, "Unsendable"), work=tmp_path / "work") as unsendable,
        pytest.raises(RecipeError, match="JSON cannot carry"),
    ):
        unsendable.answer(request_of(0))


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"linear.weight": torch.zeros(4, 64)}, tmp_path / "other.safetensors")
    folder = model_folder(tmp_path, model=tmp_path / "other.safetensors")
    with pytest.raises(FolderError, match=r"(?s)does not fit the model of recipe.py:Thirds.*linear"):
        Predictor.load(folder, work=tmp_path / "work")


def test_a_batch_without_an_input_names_it(predictor: Predictor) -> None:
    with pytest.raises(RecipeError, match="the model wants image; a batch has picture"):
        predictor.forward({"picture": torch.zeros(1, 1, 8, 8)})


def test_two_versions_of_one_file_never_mix(tmp_path: Path) -> None:
    """Pre-processing and model of different versions met in one request (kserve/kserve #1669)."""
    old = model_folder(tmp_path / "old", "Polite")
    (tmp_path / "new" / "Polite" / "src").mkdir(parents=True)
    new_code = tmp_path / "changed"
    (new_code).mkdir()
    recipe = (tmp_path / "old" / "Polite" / "src" / "recipe.py").read_text()
    (new_code / "recipe.py").write_text(recipe.replace("POLITE +", "POLITE + 'surely ' +"))
    (new_code / "names.py").write_text('POLITE = "now "\n')
    new = model_folder(tmp_path / "new2", "Polite", code=pack(new_code, tmp_path / "packed").path)
    with Predictor.load(old, work=tmp_path / "work") as first:
        with Predictor.load(new, work=tmp_path / "work") as second:
            assert second.answer(request_of(0)) == {"answer": "now surely left"}
            assert first.answer(request_of(0)) == {"answer": "it would be: left"}
        assert first.answer(request_of(1)) == {"answer": "it would be: middle"}
    assert "recipe" not in sys.modules
    assert "names" not in sys.modules


def test_threads_are_as_described_while_it_is_open_and_as_before_after(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    wanted = 1 if before != 1 else 2
    with Predictor.load(model_folder(tmp_path, threads=wanted), work=tmp_path / "work"):
        assert torch.get_num_threads() == wanted
    assert torch.get_num_threads() == before


def test_a_failed_load_leaves_no_code_behind(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "NoSuchClass")
    path = list(sys.path)
    with pytest.raises(RecipeError, match="NoSuchClass"):
        Predictor.load(folder, work=tmp_path / "work")
    assert sys.path == path
    assert "recipe" not in sys.modules


def test_a_float64_image_gives_the_outputs_of_its_float32(predictor: Predictor) -> None:
    rows = [{"image": image_of(0)}], [{"image": image_of(0).astype(np.float64)}]
    torch.testing.assert_close(*(predictor.outputs(row) for row in rows))


LAZY = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, image):
        return self.linear(image.flatten(1))


class Lazy:
    def model(self):
        return Net()

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch["label"])

    def postprocess(self, prediction):
        from words import WORD

        return {"answer": WORD}
"""


def _saying(tmp_path: Path, word: str) -> Predictor:
    source = tmp_path / word
    source.mkdir()
    (source / "recipe.py").write_text(LAZY)
    (source / "words.py").write_text(f"WORD = {word!r}\n")
    folder = model_folder(tmp_path / f"{word}-model", "Lazy", code=pack(source, tmp_path / "packed").path)
    return Predictor.load(folder, work=tmp_path / "work")


def test_two_that_stay_open_each_import_their_own_module_whoever_came_first(tmp_path: Path) -> None:
    """Two champions in one notebook: what a method imports when it is called is its own version's, not the last's."""
    first, second = _saying(tmp_path, "one"), _saying(tmp_path, "two")
    try:
        told = [one.answer(request_of(0))["answer"] for one in (first, second, first, second)]
        assert told == ["one", "two", "one", "two"]
        first.close()  # not in the order in which they came
        assert second.answer(request_of(0)) == {"answer": "two"}
    finally:
        first.close()
        second.close()
    assert not {"recipe", "words"} & set(sys.modules)
    assert not [entry for entry in sys.path if entry.startswith(str(tmp_path))]


def test_two_that_stay_open_answer_from_many_threads(tmp_path: Path) -> None:
    with _saying(tmp_path, "one") as first, _saying(tmp_path, "two") as second:
        both = {"one": first, "two": second}
        with ThreadPoolExecutor(4) as pool:
            asked = ["one", "two"] * 20
            told = list(pool.map(lambda name: both[name].answer(request_of(0))["answer"], asked))
    assert told == asked
