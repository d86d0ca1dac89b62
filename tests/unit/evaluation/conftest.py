"""A small prepared data set and models on it."""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

from modelyard.data.prepared import PreparedData
from modelyard.data.shards import write_shard
from modelyard.model.facts import Facts
from modelyard.model.predictor import write_model_folder
from modelyard.model.recipe import recipe_in
from modelyard.spec.codec import to_json
from modelyard.storage.atomic import digest_bytes

sys.path.insert(0, str(Path(__file__).parent))

RECIPE = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.net = nn.Linear(3, outputs)
    def forward(self, x):
        return self.net(x)

class Mine:
    def __init__(self, broken=""):
        self.broken = broken
    def model(self):
        return Net(max(1, len(self.facts.classes)))
    def loss(self, outputs, batch):
        if self.broken == "pairs":
            if len(outputs) < 2:
                raise ValueError("needs pairs")
        return F.cross_entropy(outputs, batch["label"])
    def predict(self, outputs):
        if self.broken == "nan":
            return [{"prediction": 0, "probabilities": [float("nan")] * 3} for _ in outputs]
        if self.broken == "names":
            return [{"prediction": self.facts.classes[int(row.argmax())]} for row in outputs]
        if self.broken == "stranger":
            return [{"prediction": 99} for _ in outputs]
        if self.broken == "few":
            return [{"prediction": 0}]
        rows = torch.softmax(outputs, 1)
        best = zip(rows.argmax(1).tolist(), rows.tolist())
        return [{"prediction": at, "score": row[at], "probabilities": row} for at, row in best]
    def metrics(self):
        def hits(predictions, labels):
            return sum(p["prediction"] == l for p, l in zip(predictions, labels)) / len(labels)
        def cost_error(predictions, labels):
            return sum(3.0 * (p["prediction"] != l) for p, l in zip(predictions, labels)) / len(labels)
        def undefined(predictions, labels):
            return float("nan")
        return {"hits": hits, "cost-error": cost_error, "undefined": undefined}
"""


class Yard:
    """Makes data and models below a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.work = home / "work"
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo("recipe.py")
            entry.size = len(RECIPE.encode())
            tar.addfile(entry, io.BytesIO(RECIPE.encode()))
        self.code = home / "code.tar"
        self.code.write_bytes(archive.getvalue())
        (home / "src").mkdir()
        (home / "src" / "recipe.py").write_text(RECIPE)

    def data(self, name: str = "data", *, classes=("ant", "bee", "cat"), size: int = 90, seed: int = 0) -> Path:
        """Points around three corners; the label is the corner, `region` another column."""
        folder = self.home / name
        folder.mkdir()
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, size)
        columns = {
            "id": [f"x{at}" for at in range(size)],
            "x": (np.eye(3)[labels] * 2 + rng.normal(0, 0.5, (size, 3))).astype(np.float32),
            "label": labels,
            "region": ["north" if at % 3 else "south" for at in range(size)],
        }
        shards = {"test": (write_shard(folder / "test-0.arrow", columns),) if size else ()}
        prepared = PreparedData(
            fingerprint=digest_bytes(b"x"), splits=shards, digests={"test": digest_bytes(b"test")},
            facts=self.facts(classes).to_json(), counts={"test": size},
        )  # fmt: skip
        (folder / "prepared.json").write_text(to_json(prepared))
        return folder

    def facts(self, classes=("ant", "bee", "cat")) -> Facts:
        return Facts(classes=list(classes), features=[{"name": "x", "type": "array", "shape": [3]}])

    def model(
        self, name: str = "model", *, order=(0, 1, 2), classes=("ant", "bee", "cat"), noise=0.0, own="", **given
    ) -> Path:
        """A model that knows the corners; class `order[i]` is its class i."""
        facts = self.facts(classes)
        use = "recipe.py:Mine" if own != "mlp" else "mlp"
        arguments = given if own != "mlp" else {"hidden": [], **given}
        opened = recipe_in(self.home / "src", use, arguments, facts)
        with opened as recipe:
            torch.manual_seed(0)
            net = recipe.model()
            linear = next(module for module in net.modules() if isinstance(module, torch.nn.Linear))
            with torch.no_grad():
                linear.weight.copy_(3 * torch.eye(3)[list(order)] + noise * torch.randn(3, 3))
                linear.bias.zero_()
            save_model(net, str(self.home / f"{name}.safetensors"))
            inputs = recipe.inputs(net)
        write_model_folder(
            self.home / name, kind="eager", model=self.home / f"{name}.safetensors",
            recipe={"use": use, "with": arguments}, facts=facts, inputs=["x"] if own != "mlp" else inputs,
            code=self.code if own != "mlp" else None,
        )  # fmt: skip
        return self.home / name


@pytest.fixture
def yard(tmp_path):
    return Yard(tmp_path)
