"""YAML as a tree whose every node knows its place, with `--set` overrides grafted in.

Values follow YAML 1.2's core schema, not PyYAML's 1.1: `2e-3` is a number, and a class called `no` stays text.
Nothing is constructed from tags, aliases cannot expand without bound, and a key given twice is refused.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import yaml

from modelyard.errors import BadSpec
from modelyard.spec.problem import FieldPath, Problem, dotted

MAX_BYTES = 1_000_000
"""A project's file has a few kilobytes."""
_MAX_NODES = 50_000
_MAX_DEPTH = 40
_FLAG = "--set "
_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core schema."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 *or* 1.2 would take for something else than text: kubectl reads the one, we the other."""


for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        _FLOAT,
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


def read(text: str, *, name: str) -> yaml.Node:
    """The tree of one YAML document.

    Raises:
        BadSpec: no YAML, empty, too large, a key given twice, or a tag that we do not read; with its place.
    """
    if len(text) > MAX_BYTES:
        raise BadSpec(f"{name}: {len(text)} characters, more than {MAX_BYTES}", do="give the project's own file")
    try:
        loader = _Loader(text)
        loader.name = name
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadSpec(
            f"{_at(mark) if mark else name}: this is not YAML: {error.problem or error.context}", do=_advice(error)
        ) from None
    except yaml.YAMLError as error:
        raise BadSpec(f"{name}: this is not YAML: {_one_line(error)}", do="write plain text without it") from None
    except RecursionError:
        raise BadSpec(f"{name}: nested too deeply", do=f"nest at most {_MAX_DEPTH} levels") from None
    if node is None:
        raise BadSpec(f"{name} is empty", do="see `modelyard init` for a file to start from")
    return node


def dump(*documents: Any) -> str:
    """JSON data as YAML documents, keys in the order in which they were put."""
    return "---\n".join(
        yaml.dump(one, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110) for one in documents
    )


def place(node: yaml.Node) -> str:
    """Where the node stands: `modelyard.yaml:12:7`, or the flag that gave it."""
    return _at(node.start_mark)


def _at(mark: yaml.Mark) -> str:
    return mark.name if mark.name.startswith(_FLAG) else f"{mark.name}:{mark.line + 1}:{mark.column + 1}"


def value(node: yaml.Node) -> Any:
    """What JSON would carry for the node; its mapping keys are text."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: value(child) for key, child in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [value(child) for child in node.value]
    text: str = node.value
    return _SCALARS.get(node.tag, str)(text)


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    _NULL: lambda _: None,
    _BOOL: lambda text: text.lower() == "true",
    _INT: lambda text: int(text) if text.lstrip("+-").isdigit() else int(text, 0),
    _FLOAT: lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}


def problems(root: yaml.Node) -> Iterator[tuple[str, Problem]]:
    """What is wrong with the tree whatever it describes: places and problems."""
    stack: list[tuple[yaml.Node, FieldPath]] = [(root, ())]
    seen = 0
    while stack:
        node, path = stack.pop()
        seen += 1
        if seen > _MAX_NODES or len(path) > _MAX_DEPTH:
            yield place(root), Problem(field=path[:3], message="too many or too deeply nested values (aliases?)")
            return
        if node.tag not in _TAGS[type(node)]:
            yield place(node), Problem(field=path, message=f"the tag {node.tag} is not read here; write a plain value")
        elif isinstance(node, yaml.MappingNode):
            yield from _keys(node, path)
            stack += [(child, (*path, str(key.value))) for key, child in node.value]
        elif isinstance(node, yaml.SequenceNode):
            stack += [(child, (*path, str(index))) for index, child in enumerate(node.value)]
        elif node.tag == _INT and len(node.value) > 40:
            yield place(node), Problem(field=path, message="a number of more than 40 digits")
        elif node.tag == _FLOAT and not math.isfinite(value(node)):
            # JSON, in which everything is kept and sent, has no such number.
            yield place(node), Problem(field=path, message=f"{node.value} is not a finite number")


_TAGS: Mapping[type, tuple[str, ...]] = {
    yaml.MappingNode: ("tag:yaml.org,2002:map",),
    yaml.SequenceNode: ("tag:yaml.org,2002:seq",),
    yaml.ScalarNode: (_NULL, _BOOL, _INT, _FLOAT, _STR),
}


def _keys(node: yaml.MappingNode, path: FieldPath) -> Iterator[tuple[str, Problem]]:
    first: dict[str, yaml.Node] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            yield place(key), Problem(field=path, message="a key must be plain text")
        elif key.value in first:
            line = first[key.value].start_mark.line + 1
            yield place(key), Problem(field=(*path, key.value), message=f"given twice, first in line {line}")
        else:
            first[key.value] = key


def child(node: yaml.Node, name: str) -> yaml.Node | None:
    """The node below `node` under this key or index."""
    if isinstance(node, yaml.MappingNode):
        return next((found for key, found in node.value if key.value == name), None)
    if isinstance(node, yaml.SequenceNode) and name.isdigit() and int(name) < len(node.value):
        return node.value[int(name)]  # type: ignore[no-any-return]
    return None


def at(root: yaml.Node, path: FieldPath) -> yaml.Node:
    """The node at `path`, or the nearest above it that exists."""
    node = root
    for name in path:
        below = child(node, name)
        if below is None:
            return node
        node = below
    return node


def graft(root: yaml.Node, path: str, text: str) -> None:
    """Set what `path` names to the YAML value in `text`, as `--set path=text` does; making mappings on the way.

    Raises:
        BadSpec: the value is no YAML, or the path leads through something that has no such part.
    """
    flag = f"{_FLAG}{path}={text}"
    new = read(text, name=flag) if text.strip() else yaml.ScalarNode(_STR, text, _mark(flag), _mark(flag))
    names = tuple(path.split("."))
    if not all(names):
        raise BadSpec(f"{flag}: a path is names with dots between", do="write it like --set train.epochs=3")
    node = root
    for depth, name in enumerate(names):
        below = child(node, name)
        last = depth == len(names) - 1
        if below is None or last:
            below = new if last else yaml.MappingNode("tag:yaml.org,2002:map", [], _mark(flag), _mark(flag))
            _put(node, name, below, flag, names[:depth])
        node = below


def _put(node: yaml.Node, name: str, new: yaml.Node, flag: str, above: FieldPath) -> None:
    if isinstance(node, yaml.MappingNode):
        key = next((key for key, _ in node.value if key.value == name), None)
        kept = [(key, found) for key, found in node.value if key.value != name]
        node.value = [*kept, (key or yaml.ScalarNode(_STR, name, _mark(flag), _mark(flag)), new)]
    elif isinstance(node, yaml.SequenceNode) and name.isdigit() and int(name) <= len(node.value):
        node.value[int(name) : int(name) + 1] = [new]
    elif isinstance(node, yaml.SequenceNode):
        what = f"{flag}: {dotted(above)} is a list of {len(node.value)}, and {name} is none of its indices"
        raise BadSpec(what, do=f"write an index from 0 to {len(node.value)}; {len(node.value)} appends")
    else:
        raise BadSpec(f"{flag}: {dotted(above)} is one value, without parts", do=f"set {dotted(above)} as a whole")


def _mark(name: str) -> yaml.Mark:
    return yaml.Mark(name, 0, 0, 0, None, 0)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _advice(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "'\\t'" in problem:
        return "indent with spaces, not tabs"
    if "single document" in str(error.context):
        return "keep one document in the file"
    if "mapping values are not allowed" in problem:
        return "look for a missing line break or a colon that needs quotes"
    return "look at that line and the one before it"
