"""A little training, after channels were cut or for a student: the train split through the recipe, seeded and bounded.

The original model teaches: beside the recipe's own loss, outputs shall be the teacher's (Hinton, Vinyals and Dean,
arXiv 1503.02531; for numbers the squared difference takes the place of the softened classes).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from modelyard.model.recipe import Loaded
from modelyard.training.feed import Feed

SEED = 0
BATCH = 64
TEMPERATURE = 2.0
LEARNING_RATE = 2e-3


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a family needs to train."""

    recipe: Loaded
    data: Path
    until: float
    """By the monotonic clock: training stops there, wherever it is."""
    student: Callable[[], nn.Module] | None = None
    """A new, smaller model, where the project names one."""


def finetune(module: nn.Module, teacher: nn.Module, training: Training, *, epochs: int, steps: int) -> nn.Module:
    """Train `module` in place and give it back in eval mode.

    Equal weights and data give equal results, unless time runs out.

    Args:
        module: what is trained.
        teacher: the uncompressed model, in eval mode.
        training: recipe, data and deadline.
        epochs: over the train split, at most.
        steps: in all, at most.
    """
    torch.manual_seed(SEED)
    feed = Feed(training.recipe, training.data, "train", seed=SEED)
    total = max(1, min(steps, epochs * max(1, len(feed) // BATCH)))
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=total + 1)
    module.train()
    done = 0
    for epoch in range(epochs):
        order = np.random.default_rng((SEED, epoch)).permutation(len(feed))
        for start in range(0, max(1, len(feed) - BATCH + 1), BATCH):
            if done == total or time.monotonic() > training.until:
                return module.eval()
            batch = feed.batch(epoch, order[start : start + BATCH])
            with torch.no_grad():
                wanted = training.recipe.call(teacher, batch)
            outputs = training.recipe.call(module, batch)
            loss = training.recipe.loss(outputs, batch) + _apart(outputs, wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
    return module.eval()


def _apart(outputs: Any, wanted: Any) -> Tensor | float:
    """How far the outputs are from the teacher's; nothing for outputs that are no tensor."""
    if not isinstance(outputs, Tensor) or not isinstance(wanted, Tensor):
        return 0.0
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        mine, theirs = (functional.log_softmax(one / TEMPERATURE, dim=1) for one in (outputs, wanted))
        return functional.kl_div(mine, theirs, log_target=True, reduction="batchmean") * TEMPERATURE**2
    return functional.mse_loss(outputs, wanted)


def parameters(module: nn.Module) -> int:
    """How many numbers a model has."""
    return sum(parameter.numel() for parameter in module.parameters())
