"""The validation split after each epoch: loss, and what the recipe measures."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from modelyard.model.recipe import Loaded
from modelyard.training.device import moved
from modelyard.training.feed import Feed
from modelyard.training.layout import Layout
from modelyard.training.parallel import total
from modelyard.training.plan import share


def validate(
    model: nn.Module,
    loaded: Loaded,
    feed: Feed,
    *,
    layout: Layout,
    size: int,
    precision: Callable[[], AbstractContextManager[Any]],
    alive: Callable[[], None],
) -> tuple[float | None, dict[str, float]]:
    """Mean loss over the split, and metrics: the recipe's own, else accuracy for classes.

    Each process takes every `world`-th example; losses are summed, predictions gathered only for a recipe's metrics.

    Returns:
        `(None, {})` for an empty split.
    """
    if not len(feed):
        return None, {}
    own = loaded.metrics()
    counts_right = not own and loaded.facts.kind == "class"
    loss_sum, right, seen = 0.0, 0.0, 0.0
    predictions: list[dict[str, Any]] = []
    labels: list[Any] = []
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad(), precision():
        groups = list(share(len(feed), rank=layout.data_rank, world=layout.data_world, size=size))
        batches = (moved(batch, device) for batch in feed.batches(0, (places for places, _ in groups)))
        for batch, (_, counts) in zip(batches, groups, strict=True):
            outputs = loaded.call(model, batch)
            if not counts:
                continue
            n = len(batch["id"])
            loss_sum += float(loaded.loss(outputs, batch)) * n
            seen += n
            if own or counts_right:
                found = loaded.predict(outputs)
                truth = batch.get("label", [None] * n)
                truth = truth.tolist() if isinstance(truth, Tensor) else list(truth)
                if own:
                    predictions += found
                    labels += truth
                right += sum(one["prediction"] == label for one, label in zip(found, truth, strict=True))
            alive()
    model.train(was_training)
    loss_sum, right, seen = total([loss_sum, right, seen], world=layout.world)
    metrics = {"accuracy": right / seen} if counts_right else {}
    if own:
        metrics = _measured(own, predictions, labels, layout)
    return loss_sum / seen, metrics


def _measured(own: dict[str, Any], predictions: list[Any], labels: list[Any], layout: Layout) -> dict[str, float]:
    """The recipe's metrics over all processes' predictions, in the split's order; computed once, told to all."""
    if layout.world == 1:
        return {name: measure(predictions, labels) for name, measure in own.items()}
    gathered: list[Any] = [None] * layout.world
    dist.gather_object((predictions, labels), gathered if layout.rank == 0 else None, dst=0)
    told: list[Any] = [None]
    if layout.rank == 0:
        parts = gathered[:: layout.tensor]  # those that share layers say the same
        every = [part for part, _ in parts], [part for _, part in parts]
        rows, truths = _dealt_back(every[0]), _dealt_back(every[1])
        told = [{name: measure(rows, truths) for name, measure in own.items()}]
    dist.broadcast_object_list(told, src=0)
    return {name: float(value) if value is not None else math.nan for name, value in told[0].items()}


def _dealt_back(parts: list[list[Any]]) -> list[Any]:
    """Undo the dealing of every `world`-th example."""
    whole = [None] * sum(map(len, parts))
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
