"""Your model, in plain PyTorch. Change anything here; `modelyard run` goes on from the stage that it affects."""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A small convolutional network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(width * 4 * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 1, 8, 8) to scores (B, 10)."""
        scores: Tensor = self.head(self.features(image).flatten(1))
        return scores


class Recipe:
    """What Modelyard asks of you: a model and a loss. More methods are optional (see docs/recipe.md)."""

    def __init__(self, width: int = 16) -> None:
        self.width = width

    def model(self) -> nn.Module:
        """The network, untrained."""
        return Net(self.width)

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """What training makes small."""
        return torch.nn.functional.cross_entropy(outputs, batch["label"])
