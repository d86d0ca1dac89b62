"""Learning rates: ours over all updates, or any class of `torch.optim.lr_scheduler` by name, both with a warm-up.

The warm-up is a factor on top: after W updates of T it is 1, and update k < W runs at (k + 1) / W of the schedule's
own first rate. A schedule is not stored in a checkpoint but walked again: its past is a function of the number of
updates (and, for a plateau, of the recorded losses), so that any class resumes exactly.
"""

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from modelyard.errors import BadInput
from modelyard.spec.train import Schedule
from modelyard.training.optimizers import check_options, classes_of, nearest

_OURS = ("constant", "cosine", "linear")
_BY_UPDATE = ("onecyclelr", "cycliclr")
"""Classes that count updates; all others count epochs."""
_NEED_OBJECTS = ("lambdalr", "multiplicativelr", "sequentiallr", "chainedscheduler", "swalr")
"""Classes whose arguments no YAML can carry."""


def schedule_class(name: str) -> type[LRScheduler] | None:
    """The class with this name in any case; None for one of ours.

    Raises:
        BadInput: there is none, or its arguments are Python objects.
    """
    if name.lower() in _OURS:
        return None
    known = {
        lower: cls
        for lower, cls in classes_of(lr_scheduler, LRScheduler).items()
        if lower not in (*_NEED_OBJECTS, "lrscheduler")
    }
    if name.lower() in known:
        return known[name.lower()]
    names = [*_OURS, *(cls.__name__ for cls in known.values())]
    reason = "takes Python objects" if name.lower() in _NEED_OBJECTS else "is no schedule"
    hint = "" if name.lower() in _NEED_OBJECTS else nearest(name.lower(), [*_OURS, *known])
    raise BadInput(f"train.schedule.name: {name!r} {reason}{hint}", do=f"use one of {', '.join(names)}")


def check_schedule(spec: Schedule) -> None:
    """Check name and options before anything is made.

    Raises:
        BadInput: no such schedule or option.
    """
    cls = schedule_class(spec.name)
    if cls is not None:
        check_options("train.schedule", cls, spec.options, ours=("self", "optimizer", "last_epoch", "verbose"))
    elif spec.options:
        raise BadInput(
            f"train.schedule.options: {spec.name} takes none, got {', '.join(spec.options)}", do="leave them out"
        )


class Rates:
    """The learning rates of an optimizer over a whole training."""

    def __init__(self, spec: Schedule, optimizer: torch.optim.Optimizer, *, updates: int, epochs: int) -> None:
        check_schedule(spec)
        self._optimizer = optimizer
        self._warmup = round(spec.warmup.fraction * updates)
        self._by_update, self._schedule = _made(spec, optimizer, updates - self._warmup, epochs)
        self._done = 0
        self._own = [float(group["lr"]) for group in optimizer.param_groups]
        self._apply()

    def after_update(self) -> None:
        """Move on by one update of the weights."""
        self._done += 1
        if self._by_update and self._done > self._warmup:
            self._step()
        if self._by_update or self._done <= self._warmup:
            self._apply()

    def after_epoch(self, loss: float) -> None:
        """Move on by one epoch, which ended with this validation loss."""
        if not self._by_update:
            self._step(loss)
            self._apply()

    def walk(self, updates_by_epoch: Sequence[int], losses: Sequence[float]) -> None:
        """Go where a schedule stands after these updates; each finished epoch has its loss."""
        for epoch, updates in enumerate(updates_by_epoch):
            for _ in range(updates):
                self.after_update()
            if epoch < len(losses):
                self.after_epoch(losses[epoch])

    def _step(self, *loss: float) -> None:
        for group, rate in zip(self._optimizer.param_groups, self._own, strict=True):
            group["lr"] = rate  # a chainable schedule goes on from what it finds, so the warm-up's factor comes off
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "called before optimizer.step()": so it is, when we walk it again
            if isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
                self._schedule.step(*loss)
            else:
                self._schedule.step()
        self._own = [float(group["lr"]) for group in self._optimizer.param_groups]

    def _apply(self) -> None:
        factor = min(1.0, (self._done + 1) / self._warmup) if self._warmup else 1.0
        for group, rate in zip(self._optimizer.param_groups, self._own, strict=True):
            group["lr"] = rate * factor


def _made(spec: Schedule, optimizer: torch.optim.Optimizer, updates: int, epochs: int) -> tuple[bool, LRScheduler]:
    """Whether it counts updates, and the schedule."""
    updates, name = max(1, updates), spec.name.lower()
    cls = schedule_class(name)
    if cls is None:
        shapes = {
            "constant": lambda _: 1.0,
            "linear": lambda k: max(0.0, 1 - k / updates),
            "cosine": lambda k: 0.5 * (1 + math.cos(math.pi * min(1.0, k / updates))),
        }
        return True, lr_scheduler.LambdaLR(optimizer, shapes[name])
    by_update = name in _BY_UPDATE
    length = updates if by_update else epochs
    # what says how long a schedule is, is known: nobody should have to count it
    known: Mapping[str, Any] = {"T_max": length, "total_steps": length + 1}
    if {"epochs", "steps_per_epoch"} & set(spec.options):
        known = {}
    wanted = inspect.signature(cls).parameters
    options = {key: value for key, value in known.items() if key in wanted} | dict(spec.options)
    missing = [key for key, p in wanted.items() if p.default is p.empty and key not in (*options, "optimizer", "self")]
    if missing:
        raise BadInput(f"train.schedule: {cls.__name__} needs {', '.join(missing)}", do="give it in options")
    try:
        return by_update, cls(optimizer, **options)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise BadInput(f"train.schedule: {cls.__name__} refuses these values ({error})", do="correct them") from None
