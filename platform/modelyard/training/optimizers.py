"""Any optimizer of `torch.optim` by name, its options checked against the class's own signature."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from modelyard.errors import BadInput
from modelyard.spec.train import Optimizer

_OURS = ("self", "params", "lr", "weight_decay")
"""Parameters that have fields of their own, or that are the model's."""


def classes_of(module: Any, base: type[Any]) -> dict[str, type[Any]]:
    """Public classes of a module below `base`, by lower-case name."""
    found = {name: value for name, value in vars(module).items() if inspect.isclass(value) and name[0] != "_"}
    return {name.lower(): cls for name, cls in found.items() if issubclass(cls, base) and cls is not base}


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a message: ` (nearest: …)`, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (nearest: {close[0]})" if close else ""


def check_options(where: str, cls: type[Any], options: Mapping[str, Any], *, ours: tuple[str, ...]) -> None:
    """Check option names against the signature of `cls`.

    Raises:
        BadInput: it has no such parameter, or it has a field of its own.
    """
    taken = [name for name in inspect.signature(cls).parameters if name not in ours]
    for name in options:
        if name in ours:
            raise BadInput(f"{where}.options: {name} has a field of its own", do=f"move it out of {where}.options")
        if name not in taken:
            raise BadInput(
                f"{where}.options: {cls.__name__} has no {name!r}{nearest(name, taken)}",
                do=f"use {', '.join(taken)}",
            )


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """The class of `torch.optim` with this name, in any case.

    Raises:
        BadInput: there is none; the message names the nearest.
    """
    known = classes_of(torch.optim, torch.optim.Optimizer)
    if name.lower() not in known:
        names = [cls.__name__ for cls in known.values()]
        by_name = nearest(name.lower(), known)
        raise BadInput(f"train.optimizer.name: no optimizer {name!r}{by_name}", do=f"use one of {', '.join(names)}")
    return known[name.lower()]


def check_optimizer(spec: Optimizer) -> None:
    """Check name and options before anything is made.

    Raises:
        BadInput: no such optimizer or option, or `weightDecay` where the class knows none.
    """
    cls = optimizer_class(spec.name)
    check_options("train.optimizer", cls, spec.options, ours=_OURS)
    if spec.weight_decay and "weight_decay" not in inspect.signature(cls).parameters:
        raise BadInput(f"train.optimizer.weightDecay: {cls.__name__} knows no weight decay", do="leave it out")


def make_optimizer(spec: Optimizer, params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer.

    Raises:
        BadInput: as `check_optimizer`, or the class refuses a value or the shape of a parameter.
    """
    check_optimizer(spec)
    cls: Any = optimizer_class(spec.name)
    known = inspect.signature(cls).parameters
    options = _as_tuples(spec.options)
    if "weight_decay" in known:
        options["weight_decay"] = spec.weight_decay
    if "fused" in known and not {"foreach", "differentiable", "capturable"} & set(options):
        options.setdefault("fused", True)  # one kernel instead of a dozen small ones for each parameter
    try:
        made: torch.optim.Optimizer = cls(params, lr=spec.lr, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"train.optimizer: {cls.__name__} refuses these values ({error})", do="correct them") from None
    return made


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step evaluates the loss itself, as LBFGS does."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _as_tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """YAML has lists where Python's signatures have tuples (betas)."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
