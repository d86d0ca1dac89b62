"""Whole channels cut out of a model, so that it is truly smaller: no zeros, no masks.

A layer's outputs can be cut where they flow through operations that work channel by channel into the inputs of other
layers and nowhere else. Outputs that are added to others (residual connections) or reshaped must stay, so of a residual
block the inner channels go, of a transformer those inside the feed-forward part.
"""

import copy
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

ELEMENTWISE: tuple[Any, ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Mish, nn.Softplus,
    nn.Dropout, nn.Identity, torch.relu, torch.tanh, torch.sigmoid, functional.relu, functional.leaky_relu,
    functional.gelu, functional.silu, functional.elu, functional.tanh, functional.sigmoid, functional.dropout,
    functional.hardswish, "relu", "tanh", "sigmoid",
)  # fmt: skip
POOLING: tuple[Any, ...] = (
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout2d, functional.max_pool2d,
    functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.dropout2d,
)  # fmt: skip
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
ALIGNED = 8
"""Channels that remain are a multiple of this, where there are enough: kernels work on vectors."""


@dataclass
class Cut:
    """A layer whose outputs can be cut, and what that touches."""

    layer: nn.Conv2d | nn.Linear
    norms: list[nn.Module] = field(default_factory=list)
    takers: list[nn.Conv2d | nn.Linear] = field(default_factory=list)


def without_channels(module: nn.Module, share: float) -> nn.Module:
    """A copy of a module without the `share` of channels that matter least, by the norms of the weights around them.

    Args:
        module: in eval mode; it stays as it is.
        share: of each layer's channels, 0 to 1.

    Raises:
        ValueError: its forward cannot be followed, or no channels can be cut.
    """
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module))
    except Exception as error:  # fx raises whatever it meets
        raise ValueError(f"its forward cannot be followed: {error}") from None
    cuts = list(_cuts(graph))
    if not cuts:
        raise ValueError("no layer's channels flow into other layers alone, so none can be cut")
    for cut in cuts:
        _apply(cut, share)
    return graph.eval()


def _cuts(graph: fx.GraphModule) -> Iterator[Cut]:
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    for node in graph.graph.nodes:
        layer = _module(graph, node)
        once = calls.count(node.target) == 1
        if once and (isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)):
            cut = Cut(layer)
            if _follow(graph, node, cut, calls) and cut.takers:
                yield cut


def _follow(graph: fx.GraphModule, node: fx.Node, cut: Cut, calls: list[Any], *, flat: bool = False) -> bool:
    """Whether all that the node's outputs flow into is known; fills `cut`.

    Args:
        graph: the traced module.
        node: whose outputs carry the channels.
        cut: gets norms and takers.
        calls: modules that are called, as often as they are.
        flat: whether images (N, C, H, W) have become (N, C·k).
    """
    images = isinstance(cut.layer, nn.Conv2d)
    for user in node.users:
        inner = _module(graph, user)
        if inner is not None and calls.count(user.target) != 1:
            return False
        what = inner if inner is not None else user.target
        flattens = images and not flat and _flattens(user, inner)
        if isinstance(inner, nn.Conv2d) and images and not flat and inner.groups == 1:
            cut.takers.append(inner)
            continue
        if isinstance(inner, nn.Linear) and flat == images:
            cut.takers.append(inner)
            continue
        if isinstance(inner, NORMS) and not flat:
            cut.norms.append(inner)
        elif not (flattens or _known(what, ELEMENTWISE) or (images and not flat and _known(what, POOLING))):
            return False
        if not _follow(graph, user, cut, calls, flat=flat or flattens):
            return False
    return bool(node.users)


def _flattens(node: fx.Node, inner: nn.Module | None) -> bool:
    """Whether images (N, C, H, W) become (N, C·k) here, channel by channel."""
    if isinstance(inner, nn.Flatten):
        return inner.start_dim == 1 and inner.end_dim == -1
    arguments = node.args[1:] + tuple(node.kwargs.values())
    if node.target in (torch.flatten, "flatten"):
        return arguments in ((1,), (1, -1))
    if node.target in (torch.mean, "mean"):
        return arguments in (((2, 3),), ([2, 3],), ((-2, -1),), ([-2, -1],))
    return False


def _known(what: Any, table: tuple[Any, ...]) -> bool:
    return any(
        isinstance(what, one) if isinstance(one, type) and isinstance(what, nn.Module) else what == one for one in table
    )


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return operator.attrgetter(str(node.target))(graph) if node.op == "call_module" else None


def _apply(cut: Cut, share: float) -> None:
    weight = cut.layer.weight.detach()
    channels = len(weight)
    left = ceil(channels * (1 - share))
    left = min(channels, ceil(left / ALIGNED) * ALIGNED if channels >= 2 * ALIGNED else max(1, left))
    matters = weight.flatten(1).norm(dim=1)
    for norm in cut.norms:
        matters = matters * norm.weight.detach().abs() if norm.affine else matters  # type: ignore[operator]
    for taker in cut.takers:
        matters = matters * _by_channel(taker, channels).norm(dim=(0, 2))
    kept = matters.topk(left).indices.sort().values
    _shrink(cut.layer, "weight", weight[kept])
    if cut.layer.bias is not None:
        _shrink(cut.layer, "bias", cut.layer.bias.detach()[kept])
    setattr(cut.layer, "out_channels" if isinstance(cut.layer, nn.Conv2d) else "out_features", left)
    for norm in cut.norms:
        for name in ("weight", "bias", "running_mean", "running_var"):
            if (value := getattr(norm, name)) is not None:
                _shrink(norm, name, value.detach()[kept])
        norm.num_features = left  # type: ignore[assignment]
    for taker in cut.takers:
        smaller = _by_channel(taker, channels)[:, kept]
        if isinstance(taker, nn.Conv2d):
            _shrink(taker, "weight", smaller.reshape(len(smaller), left, *taker.kernel_size))
            taker.in_channels = left
        else:
            _shrink(taker, "weight", smaller.flatten(1))
            taker.in_features = taker.weight.shape[1]


def _by_channel(taker: nn.Conv2d | nn.Linear, channels: int) -> Tensor:
    """Weights (outputs, channels, whatever belongs to one channel).

    Raises:
        ValueError: the inputs are no whole number for each channel.
    """
    weight = taker.weight.detach().flatten(1)
    if weight.shape[1] % channels:
        raise ValueError(f"{taker} takes no whole number of inputs for each of {channels} channels")
    return weight.reshape(len(weight), channels, -1)


def _shrink(owner: nn.Module, name: str, value: Tensor) -> None:
    parameter = isinstance(getattr(owner, name), nn.Parameter)
    setattr(owner, name, nn.Parameter(value.clone()) if parameter else value.clone())
