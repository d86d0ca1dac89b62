"""A user's class, opened, and every way in which it can be wrong."""

import base64
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from modelyard.model.recipe import Facts, RecipeError, RequestError, open_recipe, recipe_in

IMAGES = Facts(
    classes=["cat", "dog"],
    features=[{"name": "image", "type": "image", "shape": [4, 4]}],
    normalization={"image": {"mean": 2.0, "std": 4.0}},
)
NUMBERS = Facts(
    features=[
        {"name": "age", "type": "number", "shape": []},
        {"name": "old", "type": "boolean", "shape": []},
        {"name": "note", "type": "text", "shape": []},
    ],
    normalization={"age": {"mean": 10.0, "std": 2.0}},
    label={"column": "price", "kind": "number"},
)
GOOD = """
from torch import nn
class R:
    def model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch["label"])
"""


def loaded(folder: Path, source: str, *, facts: Facts = IMAGES, use: str = "recipe.py:R", **arguments):
    (folder / "recipe.py").write_text(source)
    return recipe_in(folder, use, arguments, facts)


# opening


BROKEN = {
    "a file that is missing": (GOOD, "other.py:R", {}, r"no file other\.py.*Name one of recipe\.py"),
    "a class that is missing": (GOOD, "recipe.py:Q", {}, r"no class 'Q'\. Use one of its classes: R"),
    "no class named": (GOOD, "recipe.py", {}, "names no class in a file"),
    "a path that leads out": (GOOD, "../recipe.py:R", {}, "leads out of the code folder"),
    "a syntax error": ("def (:\n", "recipe.py:R", {}, r"recipe\.py does not import: SyntaxError.*\(line 1\)"),
    "an error while importing": ("x = 1\n1 / 0\n", "recipe.py:R", {}, r"ZeroDivisionError.*\(recipe\.py, line 2\)"),
    "a package that is not there": (
        "import nowhere_to_be_found\n",
        "recipe.py:R",
        {},
        "Put nowhere_to_be_found beside",
    ),
    "an import that ends the program": ("import sys; sys.exit(3)\n", "recipe.py:R", {}, "ends the program"),
    "a class without loss": ("class R:\n  def model(self): pass\n", "recipe.py:R", {}, "recipe.py:R lacks loss"),
    "a class with neither": ("class R: pass\n", "recipe.py:R", {}, "lacks model, loss"),
    "arguments that it does not take": (GOOD, "recipe.py:R", {"width": 3}, r"does not take .*\['width'\].*R\(\)"),
    "a constructor that raises": (
        GOOD + "    def __init__(self):\n        raise KeyError('oh')\n",
        "recipe.py:R",
        {},
        "could not be made: KeyError",
    ),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_a_recipe_that_cannot_be_opened_says_what_and_where(tmp_path, case):
    source, use, arguments, told = case
    with pytest.raises(RecipeError, match=told), loaded(tmp_path, source, use=use, **arguments):
        pass
    assert "recipe" not in sys.modules
    assert str(tmp_path) not in sys.path


def test_a_recipe_named_like_a_module_in_use_is_refused(tmp_path):
    (tmp_path / "json.py").write_text(GOOD)
    with (
        pytest.raises(RecipeError, match="Rename the file"),
        recipe_in(tmp_path, "json.py:R", {}, IMAGES),
    ):
        pass
    assert hasattr(sys.modules["json"], "dumps")


def test_two_versions_of_the_same_files_never_mix(tmp_path):
    """Pre-processing and model of different versions met in one request (kserve/kserve #1669)."""
    for version in ("one", "two"):
        (tmp_path / version / "lib").mkdir(parents=True)
        (tmp_path / version / "lib" / "names.py").write_text(f"NAME = '{version}'\n")
        (tmp_path / version / "recipe.py").write_text(
            GOOD
            + "    def preprocess(self, request):\n        from lib.names import NAME\n        return {'name': NAME}\n"
        )
    with recipe_in(tmp_path / "one", "recipe.py:R", {}, IMAGES) as one:
        assert one.preprocess(b"")["name"] == "one"
        with recipe_in(tmp_path / "two", "recipe.py:R", {}, IMAGES) as two:
            assert two.preprocess(b"")["name"] == "two"
        assert one.preprocess(b"")["name"] == "one"
    assert not [name for name in sys.modules if name in ("recipe", "lib", "lib.names")]


def test_a_changed_file_is_read_anew(tmp_path):
    """Same path, same size, same second: no stale bytecode."""
    for value in ("1", "2"):
        with loaded(tmp_path, GOOD + f"    value = {value}\n") as recipe:
            assert recipe.recipe.value == int(value)
    assert not list(tmp_path.rglob("*.pyc"))


def test_a_recipe_in_a_subfolder_imports_its_neighbours(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "parts.py").write_text("WIDTH = 7\n")
    (tmp_path / "models" / "mine.py").write_text("from models.parts import WIDTH\n" + GOOD)
    with recipe_in(tmp_path, "models/mine.py:R", {}, IMAGES) as recipe:
        assert isinstance(recipe.model(), nn.Module)


def test_facts_are_set_before_any_method_is_called(tmp_path):
    source = GOOD.replace("nn.Linear(16, 2)", "nn.Linear(16, len(self.facts.classes))")
    with loaded(tmp_path, source) as recipe:
        assert recipe.model()[1].out_features == 2


def test_facts_survive_json_and_unknown_keys():
    assert Facts.from_json({**IMAGES.to_json(), "newer": 1}) == IMAGES


# what methods give


WRONG = {
    "model returns nothing": ("def model(self): pass", lambda r: r.model(), r"recipe\.py:R\.model returned nothing"),
    "model returns a number": ("def model(self): return 3", lambda r: r.model(), "model returned a int"),
    "model raises": (
        "def model(self): return [][1]",
        lambda r: r.model(),
        r"model raised IndexError.*recipe\.py, line 8",
    ),
    "loss returns nothing": ("def loss(self, o, b): pass", lambda r: r.loss(1, {}), "loss returned nothing"),
    "loss returns a float": ("def loss(self, o, b): return 1.0", lambda r: r.loss(1, {}), "loss returned a float"),
    "loss returns one for each example": (
        "def loss(self, o, b): return o",
        lambda r: r.loss(torch.ones(3), {}),
        r"loss returned a tensor of shape \(3,\)",
    ),
    "example returns nothing": (
        "def example(self, row, *, train, rng): pass",
        lambda r: r.example({}, train=True, rng=None),
        "example returned nothing",
    ),
    "predict returns a tensor": (
        "def predict(self, o): return o",
        lambda r: r.predict(torch.ones(2)),
        "predict returned",
    ),
    "predict leaves out the prediction": (
        "def predict(self, o): return [{'score': 1}]",
        lambda r: r.predict(torch.ones(2)),
        "hold 'prediction'",
    ),
    "metrics returns a list": ("def metrics(self): return [1]", lambda r: r.metrics(), "metrics returned a list"),
    "a metric is no function": (
        "def metrics(self): return {'a': 1}",
        lambda r: r.metrics(),
        r"metrics\(\)\['a'\] is a int",
    ),
    "a metric gives text": (
        "def metrics(self): return {'a': lambda p, l: 'high'}",
        lambda r: r.metrics()["a"]([], []),
        "returned 'high'",
    ),
    "optimizer returns a string": (
        "def optimizer(self, p): return 'adam'",
        lambda r: r.optimizer([]),
        "optimizer returned a str",
    ),
    "dataset without length": ("def dataset(self, s): return iter([])", lambda r: r.dataset("train"), "without length"),
    "postprocess returns nothing": (
        "def postprocess(self, p): pass",
        lambda r: r.postprocess({}),
        "postprocess returned nothing",
    ),
    "postprocess returns a tensor": (
        "def postprocess(self, p): return {'x': __import__('torch').ones(1)}",
        lambda r: r.postprocess({}),
        "what JSON cannot carry",
    ),
    "postprocess returns NaN": (
        "def postprocess(self, p): return float('nan')",
        lambda r: r.postprocess({}),
        "what JSON cannot carry",
    ),
    "postprocess returns itself": (
        "def postprocess(self, p):\n        p['self'] = p\n        return p",
        lambda r: r.postprocess({}),
        "what JSON cannot carry",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_method_that_gives_something_else_is_named(tmp_path, case):
    method, call, told = case
    with loaded(tmp_path, f"{GOOD}    {method}\n") as recipe, pytest.raises(RecipeError, match=told):
        call(recipe)


def test_a_preprocess_that_raises_is_the_clients_fault(tmp_path):
    source = GOOD + "    def preprocess(self, request):\n        return {'x': request['x']}\n"
    with loaded(tmp_path, source) as recipe, pytest.raises(RequestError, match="preprocess raised KeyError"):
        recipe.preprocess({})


# batches


def test_a_row_and_a_whole_column_give_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "image": rng.integers(0, 17, (9, 4, 4)).astype(np.uint8),
        "label": np.arange(9) % 2,
        "id": list("abcdefghi"),
    }
    with loaded(tmp_path, GOOD) as recipe:
        whole = recipe.batch(columns)
        rows = [{name: values[at] for name, values in columns.items()} for at in range(9)]
        single = recipe.collate([recipe.example(row, train=True, rng=rng) for row in rows])
    assert whole["image"].shape == (9, 1, 4, 4)
    assert torch.equal(whole["image"], single["image"])
    assert torch.equal(whole["label"], single["label"])
    assert whole["id"] == single["id"] == list("abcdefghi")


def test_color_images_become_channels_first(tmp_path):
    facts = Facts(features=[{"name": "image", "type": "image", "shape": [4, 5, 3]}])
    with loaded(tmp_path, GOOD, facts=facts) as recipe:
        assert recipe.batch({"image": np.zeros((2, 4, 5, 3), np.uint8)})["image"].shape == (2, 3, 4, 5)


def test_numbers_are_stacked_normalized_and_labelled(tmp_path):
    with loaded(tmp_path, GOOD, facts=NUMBERS) as recipe:
        batch = recipe.batch({"age": [12.0, 8.0], "old": [True, False], "note": ["a", "b"], "price": [1, 2]})
    assert torch.equal(batch["features"], torch.tensor([[1.0, 1.0], [-1.0, 0.0]]))
    assert batch["label"].dtype == torch.float32


def test_a_column_without_spread_becomes_zero_not_nan(tmp_path):
    facts = Facts(
        features=[{"name": "a", "type": "number", "shape": []}], normalization={"a": {"mean": 3.0, "std": 0.0}}
    )
    with loaded(tmp_path, GOOD, facts=facts) as recipe:
        assert torch.equal(recipe.batch({"a": [3.0, 3.0]})["features"], torch.zeros(2, 1))


def test_text_alone_asks_for_an_example_method(tmp_path):
    facts = Facts(features=[{"name": "text", "type": "text", "shape": []}])
    with loaded(tmp_path, GOOD, facts=facts) as recipe, pytest.raises(RecipeError, match=r"Define example\(row"):
        recipe.batch({"text": ["a"]})


def test_examples_of_different_shapes_are_named(tmp_path):
    with (
        loaded(tmp_path, GOOD) as recipe,
        pytest.raises(RecipeError, match=r"\(2,\) for example a and as \(3,\) for b"),
    ):
        recipe.collate([{"x": torch.ones(2), "id": "a"}, {"x": torch.ones(3), "id": "b"}])


NET = "from torch import nn\nclass Net(nn.Module):\n    def forward(self, {0}): return {1}\n" + GOOD.replace(
    "nn.Sequential(nn.Flatten(), nn.Linear(16, 2))", "Net()"
)


def test_forward_is_called_with_the_columns_that_it_names(tmp_path):
    with loaded(tmp_path, NET.format("b, a, scale=2", "a * scale - b")) as recipe:
        model = recipe.model()
        batch = {"a": torch.tensor([3.0]), "b": torch.tensor([1.0]), "label": torch.tensor([0]), "id": ["x"]}
        assert recipe.call(model, batch).tolist() == [5.0]
        assert recipe.inputs(model, batch) == ["b", "a"]
        with pytest.raises(RecipeError, match=r"wants b; a batch has a\."):
            recipe.call(model, {"a": torch.tensor([3.0]), "label": 0})


def test_a_lone_parameter_of_any_name_takes_the_lone_column(tmp_path):
    """So that nn.Sequential works as it is."""
    with loaded(tmp_path, GOOD) as recipe:
        assert recipe.inputs(recipe.model()) == ["image"]


def test_a_forward_without_names_is_refused(tmp_path):
    with (
        loaded(tmp_path, NET.format("*args", "args")) as recipe,
        pytest.raises(RecipeError, match="names no parameters"),
    ):
        recipe.call(recipe.model(), {"a": torch.ones(1)})


# predictions and requests


def test_logits_become_a_class_a_score_and_probabilities(tmp_path):
    with loaded(tmp_path, GOOD) as recipe:
        (one,) = recipe.predict(torch.tensor([[0.0, 100.0]]))
        assert (one["prediction"], one["score"]) == (1, 1.0)
        assert recipe.postprocess(one) == {"label": "dog", "score": 1.0}


def test_a_number_is_the_prediction_itself(tmp_path):
    with loaded(tmp_path, GOOD, facts=NUMBERS) as recipe:
        assert recipe.predict(torch.tensor([[1.5], [2.5]])) == [{"prediction": 1.5}, {"prediction": 2.5}]
        assert recipe.postprocess({"prediction": 1.5}) == {"value": 1.5}


def test_outputs_of_another_shape_ask_for_a_predict_method(tmp_path):
    with loaded(tmp_path, GOOD) as recipe:
        for outputs in (torch.ones(3, 7), torch.ones(3), (torch.ones(3, 2),)):
            with pytest.raises(RecipeError, match="Define predict"):
                recipe.predict(outputs)


def picture(size=(4, 4), kind="PNG", mode="L") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, (7, 7, 7) if mode == "RGB" else 7).save(out, kind)
    return out.getvalue()


def head_of_picture(width: int, height: int) -> bytes:
    """The beginning of a PNG: as much as says how large it is."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (struct.pack(">I", 13) + header, struct.pack(">I", zlib.crc32(header)), struct.pack(">I", 999) + b"IDAT")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_an_image_is_a_row_as_bytes_base64_or_nested_lists(tmp_path):
    with loaded(tmp_path, GOOD) as recipe:
        lists = [[7] * 4] * 4
        for request in (
            picture(),
            picture(mode="RGB"),
            {"image": base64.b64encode(picture()).decode()},
            {"image": lists},
        ):
            assert np.array_equal(recipe.preprocess(request)["image"], np.full((4, 4), 7))


REQUESTS = {
    "bytes that are nothing": (b"\x00\x01", "neither JSON nor a PNG or JPEG"),
    "JSON that is no object": (b"[1, 2]", "the request is a list"),
    "JSON of 100,000 brackets": (b"[" * 100_000, "neither JSON"),
    "a feature that is missing": ({"picture": 1}, "lacks image"),
    "another shape": ({"image": [[1, 2]]}, r"image has shape \(1, 2\), the model was trained on \(4, 4\)"),
    "ragged lists": ({"image": [[1], [1, 2]]}, "does not hold numbers of one shape"),
    "NaN": ({"image": [[float("nan")] * 4] * 4}, "holds NaN or Inf"),
    "text that is not base64": ({"image": "a cat"}, "not base64"),
    "an image of another size": (picture((9, 4)), "image is 4x9"),
    "an image that was cut": (picture()[:-20], "cannot be read"),
    "an image whose header promises gigabytes": (head_of_picture(30_000, 30_000), "decompression bomb"),
}


@pytest.mark.parametrize("case", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_that_does_not_fit_is_the_clients_fault(tmp_path, case):
    request, told = case
    with loaded(tmp_path, GOOD) as recipe, pytest.raises(RequestError, match=told):
        recipe.preprocess(request)


def test_errors_survive_the_way_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(RequestError("it is bad", do="make it good")))
    assert isinstance(error, RequestError)
    assert str(error) == "it is bad. Make it good."


# ours


def test_the_built_in_mlp_fits_images_and_numbers(tmp_path):
    recipe = open_recipe(tmp_path, "mlp", {"hidden": [5]}, IMAGES)
    batch = recipe.batch({"image": np.ones((3, 4, 4)), "label": [0, 1, 0]})
    outputs = recipe.call(recipe.model(), batch)
    assert outputs.shape == (3, 2)
    assert recipe.loss(outputs, batch, label_smoothing=0.1).ndim == 0
    numbers = open_recipe(tmp_path, "mlp", {}, NUMBERS)
    assert numbers.call(numbers.model(), numbers.batch({"age": [1.0], "old": [True]})).shape == (1, 1)
