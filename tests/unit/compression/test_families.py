"""The families that change layers or weights: channels that go, weights in fewer bits, layers that stay in fp32."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from modelyard.compression.search import USUAL
from modelyard.compression.variants import VARIANTS, Source
from modelyard.compression.variants.channels import without_channels
from modelyard.compression.variants.onnx_fp32 import open_session
from modelyard.compression.variants.sensitivity import most_sensitive
from modelyard.compression.variants.weights import clusters
from modelyard.compression.variants.weights_only import Int4Linear, Int8Linear


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Net(nn.Module):
    """Every way that channels can go: into a convolution, over a sum, through flatten, between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.block = Residual(16)
        self.last = nn.Conv2d(16, 16, 3, padding=1)
        self.up, self.down = nn.Linear(16 * 16, 32), nn.Linear(32, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.max_pool2d(self.block(torch.relu(self.stem(image))), 2)
        x = torch.flatten(torch.relu(self.last(x)), 1)
        return self.down(nn.functional.gelu(self.up(x)))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def made(cls: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = cls().eval()
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.running_mean.normal_(0, 0.1)
            child.running_var.uniform_(0.5, 1.5)
    return module


def source(module: nn.Module, **settings: float) -> Source:
    torch.manual_seed(1)
    batches = tuple({"image": torch.rand(8, 1, 8, 8)} for _ in range(2))
    return Source(module=module, inputs=("image",), calibration=batches, settings={**USUAL, **settings})


def answers(path: Path, images: Tensor) -> Tensor:
    if path.suffix == ".onnx":
        return torch.from_numpy(open_session(path).run(None, {"image": images.numpy()})[0])
    with torch.no_grad():
        return torch.jit.load(path)(images)


def built(name: str, module: nn.Module, folder: Path, **settings: float) -> Path:
    path = folder / f"{name}.{'onnx' if VARIANTS[name].kind == 'onnx' else 'ts'}"
    VARIANTS[name].build(source(module, **settings), path)
    return path


def agreement(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0))


# structured pruning


def test_a_pruned_model_has_fewer_channels_and_what_is_added_to_others_stays():
    smaller = without_channels(made(Net), 0.5)
    shapes = {name: tuple(value.shape) for name, value in smaller.named_parameters()}
    assert shapes["stem.weight"] == (16, 1, 3, 3)  # it flows into a sum
    assert shapes["block.conv1.weight"] == (8, 16, 3, 3)
    assert shapes["block.bn1.weight"] == (8,)
    assert shapes["block.conv2.weight"] == (16, 8, 3, 3)
    assert shapes["last.weight"] == (8, 16, 3, 3)
    assert shapes["up.weight"] == (16, 8 * 16)
    assert shapes["down.weight"] == (3, 16)
    with torch.no_grad():
        assert smaller(torch.rand(5, 1, 8, 8)).shape == (5, 3)


def test_channels_that_are_zero_go_first_and_nothing_changes():
    """What is cut is what matters least; every slice fits the others."""
    module = made(Net)
    with torch.no_grad():
        for layer in (module.block.conv1, module.last, module.up):
            layer.weight[::2] = 0
            if layer.bias is not None:
                layer.bias[::2] = 0
        module.block.bn1.running_mean[::2] = 0
        module.block.bn1.bias[::2] = 0
        images = torch.rand(4, 1, 8, 8)
        assert torch.allclose(module(images), without_channels(module, 0.5)(images), atol=1e-5)


def test_pruning_leaves_the_model_as_it_was():
    module = made(Net)
    before = copy.deepcopy(module.state_dict())
    without_channels(module, 0.5)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())


class Shared(Plain):
    def forward(self, image: Tensor) -> Tensor:
        x = self.layers[1](image.flatten(1))
        return self.layers[3](torch.relu(self.layers[1](x)))


class Decides(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image if float(image.mean()) > 0 else -image)


@pytest.mark.parametrize(
    ("cls", "told"),
    [(Shared, "none can be cut"), (Decides, "cannot be followed")],
    ids=["a layer that is called twice", "a forward that looks at values"],
)
def test_a_model_that_cannot_be_pruned_is_refused_with_the_reason(cls, told):
    with pytest.raises(ValueError, match=told):
        without_channels(made(cls), 0.5)


# weights in fewer bits


def test_linear_layers_in_8_and_4_bits_answer_as_before_and_are_smaller(tmp_path: Path):
    module, images = made(Plain), torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        wanted = module(images)
    assert agreement(answers(built("int8-weights", module, tmp_path), images), wanted) > 0.9999
    assert agreement(answers(built("int4-weights", module, tmp_path), images), wanted) > 0.99
    wide = nn.Linear(70, 64)
    stored = {cls: sum(b.numel() * b.element_size() for b in cls(wide).buffers()) for cls in (Int8Linear, Int4Linear)}
    assert stored[Int8Linear] < 0.4 * 4 * 70 * 64
    assert stored[Int4Linear] < 0.7 * stored[Int8Linear] + 1600  # scales of 32 weights, and inputs padded to 96


@pytest.mark.parametrize(("cls", "off"), [(Int8Linear, 1 / 254), (Int4Linear, 1 / 15)], ids=["int8", "int4"])
def test_no_weight_is_off_by_more_than_half_a_step(cls, off):
    torch.manual_seed(0)
    layer = nn.Linear(70, 5, bias=False)
    with torch.no_grad():
        got = cls(layer)(torch.eye(70)).T
        limit = off * (layer.weight.abs().max() if cls is Int8Linear else (layer.weight.max() - layer.weight.min()) / 2)
        assert float((got - layer.weight).abs().max()) <= float(limit) + 1e-6


def test_a_model_without_linear_layers_has_no_weights_only_form(tmp_path: Path):
    with pytest.raises(ValueError, match="no linear layers"):
        built("int8-weights", nn.Conv2d(1, 2, 3).eval(), tmp_path)


def test_clusters_are_the_nearest_of_256_values_and_a_quarter_of_the_file(tmp_path: Path):
    weight = torch.randn(40, 50)
    values, codes = clusters(weight)
    assert (len(values), codes.dtype, codes.shape) == (256, torch.uint8, weight.shape)
    nearest = (weight[..., None] - values).abs().argmin(2)
    assert torch.allclose(values[codes.long()], values[nearest])
    module = made(Plain)
    path, whole = built("clustered", module, tmp_path), built("onnx", module, tmp_path)
    assert path.stat().st_size < 0.5 * whole.stat().st_size
    images = torch.rand(3, 1, 8, 8)
    assert agreement(answers(path, images), answers(whole, images)) > 0.999


def test_half_of_a_sparse_models_weights_are_zero_and_its_file_is_as_large(tmp_path: Path):
    module = made(Plain)
    path, whole = built("sparse", module, tmp_path), built("onnx", module, tmp_path)
    large = [numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer if len(one.dims) == 2]
    assert all(np.mean(one == 0) == pytest.approx(0.5, abs=0.01) for one in large)
    assert path.stat().st_size > 0.9 * whole.stat().st_size


# int8 with settings


def test_the_most_sensitive_layer_is_the_one_whose_rounding_hurts():
    module = made(Net)
    with torch.no_grad():
        module.up.weight[:, 0] = 300.0  # so that the step of int8 swallows all others
    assert most_sensitive(source(module), 1) == ("up",)
    assert most_sensitive(source(module), 0) == ()


def test_layers_that_are_kept_are_in_fp32_in_the_graph(tmp_path: Path):
    module = made(Net)
    plain = onnx.load(str(built("onnx-int8", module, tmp_path)))
    kept = onnx.load(str(built("onnx-int8", module, tmp_path, keep=2)))

    def floats(model: onnx.ModelProto) -> int:
        found = {one.name for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT and one.dims}
        return sum(any(name in found for name in node.input[1:2])
                   for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul"))  # fmt: skip

    assert (floats(plain), floats(kept)) == (0, 2)


@pytest.mark.parametrize("name", ["onnx-int8", "onnx-int8-dynamic", "clipped-int8"])
def test_int8_answers_nearly_as_fp32(name: str, tmp_path: Path):
    module, images = made(Net), torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        assert agreement(answers(built(name, module, tmp_path), images), module(images)) > 0.99


class Gated(Plain):
    def forward(self, image: Tensor) -> Tensor:
        x = self.layers[1](image.flatten(1))
        return self.layers[3](x * torch.sigmoid(x))


def test_without_convolutions_only_matrix_products_are_int8(tmp_path: Path):
    """A softmax or a norm in int8 costs accuracy and gains nothing."""
    graph = onnx.load(str(built("onnx-int8", made(Gated), tmp_path))).graph
    rounded = {name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.input}
    makers = {node.op_type for node in graph.node if rounded.intersection(node.output)}
    assert "Sigmoid" not in makers
    assert "Mul" in makers  # what the second product takes


@pytest.mark.parametrize("name", ["pruned", "distilled"])
def test_one_that_must_train_and_has_no_data_says_so(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"nothing to train on|compress\.student"):
        VARIANTS[name].build(replace(source(made(Net)), training=None), tmp_path / "out.onnx")
