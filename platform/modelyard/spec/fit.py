"""Whether a tree fits a record's type: every misfit, in words for the person who wrote the file.

pydantic could say as much, but of a union it reports every branch, and it knows neither lines nor the nearest name.
It still builds the record in the end (`codec.from_data`), so what fits here and there cannot drift apart.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from modelyard.record import camel_case
from modelyard.spec.problem import FieldPath, Problem, did_you_mean, nearest
from modelyard.spec.tree import value
from modelyard.units import Duration, Percentage, Quantity

_UNITS = (Duration, Percentage, Quantity)


@cache
def fields_of(kind: type) -> Mapping[str, tuple[Any, bool]]:
    """A record's fields by the name that people write: their type, and whether they must be given."""
    hints = get_type_hints(kind)
    return {
        camel_case(one.name): (
            hints[one.name],
            one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING,
        )
        for one in dataclasses.fields(kind)
    }


def misfits(node: yaml.Node, kind: Any, path: FieldPath = ()) -> Iterator[tuple[yaml.Node, Problem]]:
    """What of `node` does not fit `kind`: the node to point at, and the problem."""
    branches = _branches(kind)
    if _is_null(node):
        if type(None) not in branches and kind is not Any:
            yield node, Problem(field=path, message="is empty; give it a value or leave the line out")
        return
    branches = tuple(one for one in branches if one is not type(None))
    if len(branches) == 1:
        yield from _misfits_of_one(node, branches[0], path)
        return
    records = tuple(one for one in branches if dataclasses.is_dataclass(one))
    if isinstance(node, yaml.MappingNode) and records:
        yield from _misfits_of_records(node, records, path)
    elif not any(next(misfits(node, one, path), None) is None for one in branches):
        yield node, Problem(field=path, message=f"{_shown(node)} is not {describe(kind)}")


def _is_null(node: yaml.Node) -> bool:
    """Whether nothing was written: `clipNorm:` or `clipNorm: null`."""
    return isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")


def _branches(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _misfits_of_one(node: yaml.Node, kind: Any, path: FieldPath) -> Iterator[tuple[yaml.Node, Problem]]:
    origin, arguments = get_origin(kind), get_args(kind)
    wanted: type[yaml.Node]
    if dataclasses.is_dataclass(kind) or _is_subclass(origin, Mapping):
        wanted = yaml.MappingNode
    else:
        wanted = yaml.SequenceNode if origin is tuple else yaml.ScalarNode
    if kind is not Any and not isinstance(node, wanted):
        yield node, Problem(field=path, message=f"{_shown(node)} is not {describe(kind)}")
    elif dataclasses.is_dataclass(kind):
        yield from _misfits_of_record(node, kind, path)  # type: ignore[arg-type]
    elif isinstance(node, yaml.MappingNode) and kind is not Any:
        for key, below in node.value:
            yield from misfits(below, arguments[1], (*path, key.value))
    elif isinstance(node, yaml.SequenceNode) and kind is not Any:
        for index, below in enumerate(node.value):
            yield from misfits(below, arguments[0], (*path, str(index)))
    elif kind is not Any:
        message = _scalar(node, kind)
        if message:
            yield node, Problem(field=path, message=message)


def _is_subclass(one: Any, of: type) -> bool:
    return isinstance(one, type) and issubclass(one, of)


def _misfits_of_record(node: yaml.MappingNode, kind: type, path: FieldPath) -> Iterator[tuple[yaml.Node, Problem]]:
    known = fields_of(kind)
    for key, below in node.value:
        if key.value in known:
            yield from misfits(below, known[key.value][0], (*path, key.value))
        else:
            yield key, Problem(field=(*path, key.value), message=f"unknown field; {_guess(key.value, kind)}")
    given = {key.value for key, _ in node.value}
    meant = given | {nearest(name, known) for name in given - set(known)}
    for name, (below_kind, required) in known.items():
        if required and name not in meant:
            yield node, Problem(field=(*path, name), message=f"is missing; it must be {describe(below_kind)}")


def _misfits_of_records(
    node: yaml.MappingNode, kinds: tuple[Any, ...], path: FieldPath
) -> Iterator[tuple[yaml.Node, Problem]]:
    """A union of records is told apart by its keys: the branch that knows most of them is meant."""
    given = [key.value for key, _ in node.value]
    everything = [name for kind in kinds for name in fields_of(kind)]

    def known(kind: Any) -> int:
        return sum(2 if name in fields_of(kind) else nearest(name, fields_of(kind)) is not None for name in given)

    best = max(kinds, key=known)
    if not known(best):
        yield node, Problem(field=path, message=f"must have one of {', '.join(everything)}")
        return
    strangers = [name for name in given if name in everything and name not in fields_of(best)]
    if strangers:
        both = " and ".join([*(name for name in given if name in fields_of(best)), *strangers])
        yield node, Problem(field=path, message=f"{both} exclude each other; write them as items of their own")
        return
    yield from _misfits_of_record(node, best, path)


def _guess(name: str, kind: type) -> str:
    """The nearest name here, else the same name further down (`train.lr` is `optimizer.lr`)."""
    known = fields_of(kind)
    if nearest(name, known) is None:
        below: list[FieldPath] = [path for path in _paths_below(kind) if path[-1] == name]
        if below:
            shortest = min(below, key=len)
            return f"did you mean {'.'.join(shortest)}?"
    return did_you_mean(name, known)


@cache
def _paths_below(kind: type) -> tuple[FieldPath, ...]:
    paths: list[FieldPath] = []
    for name, (below, _) in fields_of(kind).items():
        for one in _branches(below):
            if dataclasses.is_dataclass(one):
                paths += [(name, *path) for path in _paths_below(one)]  # type: ignore[arg-type]
        paths.append((name,))
    return tuple(paths)


def _scalar(node: yaml.Node, kind: Any) -> str | None:
    """What is wrong with one value, or None."""
    given = value(node)
    if get_origin(kind) is Literal or _is_subclass(kind, StrEnum):
        choices = [str(one) for one in (get_args(kind) or kind)]
        return None if given in choices else f"{_shown(node)} is not known; {did_you_mean(str(given), choices)}"
    if kind in _UNITS:
        try:
            kind.parse(given)
        except ValueError as error:
            return str(error)
        return None
    fits = {
        bool: isinstance(given, bool),
        int: isinstance(given, int) and not isinstance(given, bool),
        float: isinstance(given, int | float) and not isinstance(given, bool),
        str: isinstance(given, str),
    }[kind]
    if fits:
        return None
    hint = f'; put it in quotes: "{node.value}"' if kind is str else ""
    return f"{_shown(node)} is not {describe(kind)}{hint}"


def describe(kind: Any) -> str:
    """A type in words.

    >>> describe(int | None), describe(tuple[str, ...])
    ('a whole number', 'a list')
    """
    branches = [one for one in _branches(kind) if one is not type(None)]
    if len(branches) > 1 and all(dataclasses.is_dataclass(one) for one in branches):
        return f"a mapping with one of {', '.join(name for one in branches for name in fields_of(one))}"
    return " or ".join(dict.fromkeys(map(_described, branches)))


def _described(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if dataclasses.is_dataclass(kind):
        names = list(fields_of(kind))  # type: ignore[arg-type]
        return f"a mapping ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})"
    if origin is not None:
        return "a list" if origin is tuple else "a mapping"
    if kind in _UNITS:
        return f"a {kind.__name__.lower()} like {kind.example}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(kind, "a value")


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    given = value(node)
    text = str(given) if not isinstance(given, str) else repr(given)
    return text if len(text) <= 60 else text[:57] + "…"
