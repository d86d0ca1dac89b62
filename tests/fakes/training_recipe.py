"""Everything that is known to break an exact resume: batch norm, dropout, augmentation, uneven gradients."""

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.middle = nn.Sequential(nn.Linear(512, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.head = nn.Linear(32, 4)

    def forward(self, image):
        return self.head(self.middle(self.features(image).flatten(1)))


class Recipe:
    def model(self):
        return Net()

    def loss(self, outputs, batch, label_smoothing=0.0):
        return nn.functional.cross_entropy(outputs, batch["label"], label_smoothing=label_smoothing)

    def example(self, row, *, train, rng):
        image = np.asarray(row["image"], np.float32)
        if train:
            image = np.roll(image, rng.integers(-1, 2, size=2), axis=(0, 1)) + rng.normal(0, 0.1, image.shape)
        return {"image": torch.from_numpy(image.astype(np.float32))[None]}


class PlainRecipe:
    model = Recipe.model
    loss = Recipe.loss


class LinearNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, image):
        return self.head(image.flatten(1))


class Linear:
    """No batch norm, no augmentation, read as whole columns; its loss takes no smoothing."""

    def model(self):
        return LinearNet()

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch["label"])
