"""Code of several models in one process: each with its own modules, whatever they are called."""

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import ClassVar


class Scope:
    """A recipe's code that is open: its folder on the path and its modules, while it is in sight.

    One is in sight at a time, so that equal names of two versions never mix. What opens comes into sight; where
    several stay open, such as champions in a notebook, each brings itself back with `in_sight` before it is used.
    """

    _open: ClassVar[list["Scope"]] = []
    """The last one is in sight."""
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._modules: dict[str, ModuleType] = {}

    def open(self) -> None:
        """Come into sight with nothing imported."""
        with self._lock:
            self._show(self)

    def close(self) -> None:
        """Leave for good, in whatever order; what was in sight before comes back."""
        with self._lock:
            if self not in self._open:
                return
            seen = self._open[-1]
            self._open.remove(self)
            if seen is self:
                self._leave()
                if self._open:
                    self._open[-1]._come()

    @contextmanager
    def in_sight(self) -> Iterator[None]:
        """While inside, this recipe's modules are those that its code imports; one thread at a time."""
        with self._lock:
            before = self._open[-1] if self._open else None
            if self not in self._open or before is self:
                yield
                return
            self._show(self)
            try:
                yield
            finally:
                if before in self._open:
                    self._show(before)

    @classmethod
    def _show(cls, scope: "Scope") -> None:
        if cls._open:
            cls._open[-1]._leave()
        if scope in cls._open:
            cls._open.remove(scope)
        cls._open.append(scope)
        scope._come()

    def _come(self) -> None:
        sys.path.insert(0, str(self._folder))
        sys.modules.update(self._modules)
        importlib.invalidate_caches()

    def _leave(self) -> None:
        self._modules = _take_away([self._folder])
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != self._folder]
        importlib.invalidate_caches()


def _take_away(folders: list[Path]) -> dict[str, ModuleType]:
    """Remove the modules that came from these folders, and give them back."""
    taken = {
        name: module for name, module in list(sys.modules.items()) if any(lies_in(module, root) for root in folders)
    }
    for name in taken:
        del sys.modules[name]
    return taken


def lies_in(module: ModuleType, root: Path) -> bool:
    """Whether a module came from a folder."""
    origin = getattr(module, "__file__", None)
    places = [origin] if origin else list(getattr(module, "__path__", []) or [])
    return any(_real(os.path.dirname(place)).is_relative_to(root) for place in places if isinstance(place, str))  # noqa: PTH120


@cache
def _real(folder: str) -> Path:
    """Asked of every loaded module, thousands of them in a few hundred folders."""
    return Path(folder).resolve()
