"""The repeated layers of a model: what FSDP2 gathers one by one, and what is computed again or compiled by itself."""

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from modelyard.errors import BadInput
from modelyard.spec.train import TrainStrategy


def blocks(model: nn.Module) -> list[nn.Module]:
    """Members, with parameters, of the outermost `nn.ModuleList`s."""
    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            found += [member for member in child if next(member.parameters(), None) is not None]
        else:
            found += blocks(child)
    return found


def prepare_blocks(model: nn.Module, strategy: TrainStrategy) -> None:
    """Let blocks be computed again, and be compiled, as the strategy says. Names of parameters stay.

    `forward` is replaced and not the module, so that hooks (FSDP2's, the user's) stay outside of what is compiled.

    Raises:
        BadInput: there is no block to compute again.
    """
    found = blocks(model)
    if strategy.activation_checkpointing:
        if not found:
            raise BadInput(
                "train.strategy.activationCheckpointing cannot act: the model has no nn.ModuleList",
                do="put the repeated layers into one, or leave it out",
            )
        for block in found:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if strategy.compile:
        for part in found or [model]:
            part.forward = torch.compile(part.forward, fullgraph=True)
