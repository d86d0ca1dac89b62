"""Three recipes for handwritten digits: an MLP, a CNN, and a CNN with a bug that only live traffic shows."""

import statistics
import time

import numpy as np
import torch
from torch import Tensor, nn


class Mlp:
    """Version 1: a small multi-layer perceptron."""

    def __init__(self, width: int = 32) -> None:
        self.width = width

    def model(self) -> nn.Module:
        return MlpNet(self.width)

    def loss(self, outputs: Tensor, batch: dict) -> Tensor:
        return nn.functional.cross_entropy(outputs, batch["label"])


class Cnn(Mlp):
    """Version 2: a convolutional network."""

    def model(self) -> nn.Module:
        return CnnNet(self.width)


class AugmentedCnn(Cnn):
    """Version 3: the CNN, trained on shifted images. Good offline; `postprocess` is what goes wrong live."""

    def __init__(self, width: int = 32) -> None:
        super().__init__(width)
        self.recent: list[float] = []

    def example(self, row: dict, *, train: bool, rng: np.random.Generator) -> dict[str, Tensor]:
        image = np.asarray(row["image"], dtype=np.float32)
        if train:
            image = np.roll(image, rng.integers(-1, 2, size=2), axis=(0, 1))
        scale = self.facts.normalization["image"]
        image_CHW = torch.from_numpy((image - scale["mean"]) / scale["std"]).unsqueeze(0)
        return {"image": image_CHW} | ({"label": torch.tensor(row["label"])} if "label" in row else {})

    def postprocess(self, prediction: dict) -> dict:
        # "Is this answer more certain than the recent ones?": harmless in any offline test, which asks a few times.
        self.recent = [*self.recent[-99:], prediction["score"]]
        if len(self.recent) > 20:
            time.sleep(0.06)  # stands for a call to a slow service
            if len(self.recent) % 10 == 0 or self.recent[-1] == max(self.recent):
                raise statistics.StatisticsError("no spread among the recent scores")
        return {"label": self.facts.classes[prediction["prediction"]], "score": prediction["score"]}


class MlpNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, image: Tensor) -> Tensor:  # (B, 1, 8, 8) -> (B, 10)
        return self.layers(image)


class CnnNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.head = nn.Linear(2 * width * 4, 10)

    def forward(self, image: Tensor) -> Tensor:  # (B, 1, 8, 8) -> (B, 10)
        return self.head(self.features(image).flatten(1))
