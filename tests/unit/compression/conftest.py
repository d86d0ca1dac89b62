"""A small prepared data set and a small trained model, made once for all tests of compression."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from torch import nn

from modelyard.data.columns import Columns
from modelyard.data.prepared import PreparedData
from modelyard.data.shards import write_shard
from modelyard.model.facts import Facts
from modelyard.model.predictor import write_model_folder
from modelyard.spec.codec import to_json
from modelyard.storage.atomic import digest_bytes

RECIPE = '''
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * 64, 3))
    def forward(self, image):
        return self.net(image)

class Bars:
    """Tells which third of an image is bright."""
    def __init__(self, width=8):
        self.width = width
    def model(self):
        return Net(self.width)
    def loss(self, outputs, batch):
        return F.cross_entropy(outputs, batch["label"])

class Branching(Bars):
    """A model whose forward looks at its values: no tracer can follow."""
    def model(self):
        class Looks(Net):
            def forward(self, image):
                outputs = self.net(image)
                return outputs * 2 if float(image.mean()) > 1e9 or len(image) > 2 else outputs
        return Looks(self.width)
'''


def bars(count: int, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=count)
    images = rng.normal(0, 0.3, size=(count, 8, 8)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[:, 3 * label : 3 * label + 2] += 1
    return {"id": [f"{seed}-{at}" for at in range(count)], "image": images, "label": labels}


FACTS = Facts(
    classes=["left", "middle", "right"],
    features=[{"name": "image", "type": "image", "shape": [8, 8]}],
    normalization={"image": {"mean": 0.2, "std": 0.5}},
    label={"column": "label", "kind": "class"},
)


def prepared_folder(folder: Path, sizes: dict[str, int]) -> Path:
    folder.mkdir(parents=True)
    splits = {}
    for seed, (split, size) in enumerate(sizes.items()):
        splits[split] = (write_shard(folder / f"{split}-0.arrow", bars(size, seed)),) if size else ()
    digests = {split: digest_bytes(repr(shards).encode()) for split, shards in splits.items()}
    prepared = PreparedData(
        fingerprint=digest_bytes(b"bars"), splits=splits, digests=digests, facts=FACTS.to_json(), counts=sizes
    )
    (folder / "prepared.json").write_text(to_json(prepared))
    return folder


def model_folder(folder: Path, cls: str = "Bars", width: int = 8) -> Path:
    folder.mkdir(parents=True)
    namespace: dict = {}
    exec(RECIPE, namespace)
    torch.manual_seed(0)
    module: nn.Module = namespace[cls](width).model()
    columns = bars(300, 99)
    inputs = torch.from_numpy((np.asarray(columns["image"]) - 0.2) / 0.5)[:, None].float()
    labels = torch.from_numpy(np.asarray(columns["label"]))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(15):
        optimizer.zero_grad()
        nn.functional.cross_entropy(namespace["Net"].forward(module, inputs), labels).backward()
        optimizer.step()
    save_model(module, str(folder / "weights.safetensors"))
    with tarfile.open(folder / "code.tar", "w") as tar:
        member = tarfile.TarInfo("recipe.py")
        member.size = len(RECIPE.encode())
        tar.addfile(member, io.BytesIO(RECIPE.encode()))
    write_model_folder(
        folder / "model",
        kind="eager",
        model=folder / "weights.safetensors",
        recipe={"use": f"recipe.py:{cls}", "with": {"width": width}},
        facts=FACTS,
        inputs=["image"],
        code=folder / "code.tar",
        sample={"image": {"shape": [1, 8, 8], "dtype": "float32"}},
    )
    return folder / "model"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_folder(tmp_path_factory.mktemp("data") / "bars", {"train": 300, "validation": 240, "test": 60})


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model") / "bars")
