"""Recipes that need no file of the user's: good first models, and short examples of what a recipe is.

They live here, not beside the trainer, because the copy of this package in a model archive must hold them.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor, nn

from modelyard.model.facts import Facts


class _MLPNet(nn.Module):
    def __init__(self, features: int, hidden: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        sizes = (features, *hidden)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, …) → logits (N, C)."""
        return self.layers(inputs.flatten(1))  # type: ignore[no-any-return]


class MLP:
    """A multi-layer perceptron over one image, one array, or all the numbers of a row."""

    facts: Facts

    def __init__(self, hidden: tuple[int, ...] | list[int] = (64,)) -> None:
        self.hidden = tuple(hidden)

    def model(self) -> nn.Module:
        """A perceptron with as many inputs as the data has numbers, and as many outputs as classes."""
        if len(self.facts.columns) != 1:
            raise ValueError(f"mlp takes one input; the data has {', '.join(self.facts.columns) or 'none'}")
        inputs = math.prod(self.facts.tensors[0]["shape"]) if self.facts.tensors else len(self.facts.scalars)
        outputs = len(self.facts.classes) if self.facts.kind == "class" else 1
        return _MLPNet(inputs, self.hidden, outputs)

    def loss(self, outputs: Tensor, batch: Mapping[str, Any], *, label_smoothing: float = 0.0) -> Tensor:
        """Cross entropy for classes, mean squared error for numbers."""
        if self.facts.kind == "class":
            return F.cross_entropy(outputs, batch["label"], label_smoothing=label_smoothing)
        return F.mse_loss(outputs.squeeze(1), batch["label"])
