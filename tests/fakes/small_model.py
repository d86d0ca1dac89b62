"""A model that needs no training: it says which third of an 8x8 image is the brightest. And its moods, for faults."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from modelyard.data.prepared import PreparedData
from modelyard.data.shards import write_shard
from modelyard.model.facts import Facts
from modelyard.model.predictor import write_model_folder
from modelyard.packaging.package import Package, package
from modelyard.spec.codec import to_json
from modelyard.storage.atomic import digest_bytes
from modelyard.storage.code import pack

CLASSES = ["left", "middle", "right"]
FACTS = Facts(classes=CLASSES, features=[{"name": "image", "type": "image", "shape": [8, 8]}])
NAME = "thirds"

RECIPE = '''
import os
import time

from names import POLITE
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, image):
        if float(image.max()) > 900:
            raise ArithmeticError("too bright for this model")
        return self.linear(image.flatten(1))


class Thirds:
    def model(self):
        return Net()

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch["label"])


class Polite(Thirds):
    def postprocess(self, prediction):
        return {"answer": POLITE + self.facts.classes[prediction["prediction"]]}


class Moody(Thirds):
    """Does what a request says under `mood`, and cannot say "right"."""

    def preprocess(self, request):
        if not isinstance(request, dict) or "image" not in request:
            raise ValueError("there is no image in it")
        mood, _, number = request.get("mood", "").partition(" ")
        if mood == "die":
            os._exit(3)
        if mood == "sleep":
            time.sleep(float(number))
        return {"image": request["image"]}

    def postprocess(self, prediction):
        if prediction["prediction"] == 2:
            raise ArithmeticError("cannot say right")
        return {"answer": self.facts.classes[prediction["prediction"]]}


class Unsendable(Thirds):
    def postprocess(self, prediction):
        return {"answer": float("nan")}


class OfItsOwn(Thirds):
    """Takes three numbers as text, and says so by `request`."""

    def request(self, row):
        return ",".join(str(float(row["image"][:, 3 * third : 3 * third + 2].mean())) for third in range(3)).encode()

    def preprocess(self, request):
        import numpy

        image = numpy.zeros((8, 8), dtype="float32")
        for third, number in enumerate(request.decode().split(",")):
            image[:, 3 * third : 3 * third + 2] = float(number)
        return {"image": image}


class PicturesOnly(Thirds):
    def preprocess(self, request):
        import io

        import numpy
        from PIL import Image

        if not isinstance(request, bytes):
            raise ValueError("send a picture")
        return {"image": numpy.asarray(Image.open(io.BytesIO(request)), dtype="float32")}


class Refusing(Thirds):
    def preprocess(self, request):
        raise ValueError("never content")


class BreaksWhenMade(Thirds):
    def __init__(self):
        if "MODELYARD_MANIFEST" in os.environ:
            raise RuntimeError("works in the laboratory only")
'''


def image_of(third: int, brightness: float = 9.0) -> "np.ndarray[Any, Any]":
    """An image (8, 8) whose third is bright."""
    image = np.ones((8, 8), dtype=np.float32)
    image[:, 3 * third : 3 * third + 2] = brightness
    return image


def request_of(third: int, **more: Any) -> bytes:
    """A request as JSON."""
    return json.dumps({"image": image_of(third).tolist(), **more}).encode()


def weights() -> dict[str, torch.Tensor]:
    """Each class sums its own third."""
    weight = torch.zeros(3, 8, 8)
    for third in range(3):
        weight[third, :, 3 * third : 3 * third + 2] = 0.05
    return {"linear.weight": weight.reshape(3, 64), "linear.bias": torch.zeros(3)}


def code_archive(into: Path) -> Path:
    """The recipe and a module beside it, packed."""
    (into / "src").mkdir(parents=True)
    (into / "src" / "recipe.py").write_text(RECIPE)
    (into / "src" / "names.py").write_text('POLITE = "it would be: "\n')
    return pack(into / "src", into / "code").path


def model_folder(into: Path, cls: str = "Thirds", **changes: Any) -> Path:
    """A model folder of kind eager below `into`."""
    into.mkdir(parents=True, exist_ok=True)
    save_file(weights(), into / "weights.safetensors")
    settings: dict[str, Any] = {
        "kind": "eager",
        "model": into / "weights.safetensors",
        "recipe": {"use": f"recipe.py:{cls}", "with": {}},
        "facts": FACTS,
        "inputs": ["image"],
        "code": code_archive(into / cls),
        "sample": {"image": {"shape": [1, 8, 8], "dtype": "float32"}},
    }
    write_model_folder(into / "model", **(settings | changes))
    return into / "model"


def prepared_data(into: Path, examples: int = 12) -> Path:
    """Prepared data with a test split."""
    into.mkdir(parents=True)
    columns = {
        "id": [f"e{number}" for number in range(examples)],
        "image": np.stack([image_of(number % 3) for number in range(examples)]) if examples else np.zeros((0, 8, 8)),
        "label": np.arange(examples) % 3,
    }
    splits = {"test": (write_shard(into / "test-0.arrow", columns),) if examples else ()}
    prepared = PreparedData(
        fingerprint=digest_bytes(b"thirds"),
        splits=splits,
        digests={"test": digest_bytes(repr(splits).encode())},
        facts=FACTS.to_json(),
        counts={"test": examples},
    )
    (into / "prepared.json").write_text(to_json(prepared))
    return into


def small_package(into: Path, cls: str = "Thirds", *, key: Path | None = None) -> Package:
    """A packaged model below `into`."""
    return package(
        model_folder(into, cls),
        name=NAME,
        data=prepared_data(into / "data", 2 if cls == "Moody" else 12),  # Moody cannot say "right"
        work=into / "work",
        out=into / "package",
        key=key,
    )


def entries_of(archive: str) -> dict[str, bytes]:
    """Path in an archive → content."""
    with zipfile.ZipFile(archive) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}
