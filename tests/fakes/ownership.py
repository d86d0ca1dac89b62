"""Who owns which field, as server-side apply has it: enough of it for the kinds that we write.

An object is taken apart into leaves, `path → value`. An item of an associative list has its keys as a step of the path;
any other list is one leaf. https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Path = tuple[Any, ...]
Leaves = dict[Path, Any]
Owner = tuple[str, str, str]
"""Manager, `Apply` or `Update`, subresource."""

KEYS = {
    "containers": ("name",), "initContainers": ("name",), "volumes": ("name",), "env": ("name",),
    "imagePullSecrets": ("name",), "volumeMounts": ("mountPath",), "ownerReferences": ("uid",), "conditions": ("type",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}  # fmt: skip


class Item(NamedTuple):
    """A step into an associative list."""

    keys: tuple[tuple[str, Any], ...]


def leaves(value: Any, path: Path = ()) -> Leaves:
    """Take an object apart."""
    found: Leaves = {}
    _gather(value, path, found)
    return found


def _gather(value: Any, path: Path, found: Leaves) -> None:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            if isinstance(below, str):
                found[(*path, name)] = below
            else:
                _gather(below, (*path, name), found)
    elif isinstance(value, list) and (keys := _keys(path, value)):
        for each in value:
            step = Item(tuple((key, each.get(key, "TCP" if key == "protocol" else "")) for key in keys))
            _gather(each, (*path, step), found)
    elif not isinstance(value, dict) or path:
        found[path] = value


def whole(parts: Mapping[Path, Any]) -> dict[str, Any]:
    """Put an object together again; items of lists stand in the order of their leaves."""
    made: dict[Any, Any] = {}
    for path, value in parts.items():
        at = made
        for step in path[:-1]:
            at = at.setdefault(step, {})
            if not isinstance(at, dict):
                break
        else:
            at[path[-1]] = value
    return _lists(made)


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(isinstance(step, Item) for step in value):
        return [_lists(below) if isinstance(below, dict) else dict(step.keys) for step, below in value.items()]
    return {name: _lists(below) for name, below in value.items()}


def _keys(path: Path, items: list[Any]) -> tuple[str, ...]:
    name = path[-1] if path else ""
    if not items or not all(isinstance(each, dict) for each in items):
        return ()
    if name == "ports":
        inside = "containerPort" if "containerPort" in items[0] else "port"
        return (inside, "protocol") if all(inside in each for each in items) else ()
    return KEYS.get(name, ())


class Ownership:
    """The owners of one object's fields."""

    def __init__(self) -> None:
        self.owned: dict[Owner, set[Path]] = {}

    def disputed(self, owner: Owner, live: Leaves, wanted: Leaves) -> list[tuple[Path, str]]:
        """Fields that another has otherwise, and that other's name."""
        return [
            (path, other[0])
            for path, value in wanted.items()
            for other, paths in self.owned.items()
            if other != owner and path in paths and live.get(path, _NOTHING) != value
        ]

    def applied(self, owner: Owner, live: Leaves, wanted: Leaves) -> Leaves:
        """The leaves after an apply: what is given, without what this owner alone gave before and gives no more."""
        others = {path for other, paths in self.owned.items() if other != owner for path in paths}
        dropped = self.owned.get(owner, set()) - set(wanted) - others
        after = {path: value for path, value in live.items() if path not in dropped}
        for path, value in wanted.items():
            if path in after or not live:  # nothing stands above or below it
                after[path] = value
                continue
            below = [other for other in after if len(other) > len(path) and other[: len(path)] == path]
            if below and value == {}:
                continue
            for gone in [*below, *(path[:end] for end in range(1, len(path)))]:
                after.pop(gone, None)
            after[path] = value
        self._settle(owner, live, after, mine=set(wanted))
        self.owned[owner] = {path for path in wanted if path in after}
        return after

    def updated(self, owner: Owner, live: Leaves, after: Leaves) -> None:
        """Who changes a field by a plain write owns it, and nobody else. What is in neither is as it was."""
        changed = {path for path, value in after.items() if live.get(path, _NOTHING) != value}
        self._settle(owner, live, after, mine=changed)
        if mine := self.owned.get(owner, set()) | changed:
            self.owned[owner] = mine

    def _settle(self, owner: Owner, live: Leaves, after: Leaves, *, mine: Iterable[Path]) -> None:
        gone = {path for path in live if path not in after}
        taken = {path for path in mine if live.get(path, _NOTHING) != after.get(path, _NOTHING)}
        for other in list(self.owned):
            self.owned[other] -= gone if other == owner else gone | taken
            if not self.owned[other]:
                del self.owned[other]


_NOTHING = object()
