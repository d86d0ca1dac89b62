"""CustomResourceDefinitions, made from the types: structural schemas with every field's meaning, defaults and rules.

`python -m modelyard.spec.crd charts/modelyard/definitions` writes them; a test holds the files to the types.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

import dataclasses
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml

from modelyard.record import camel_case
from modelyard.spec.codec import adapter
from modelyard.spec.crd_pod import Rule
from modelyard.spec.crd_rules import COLUMNS, FIELDS, RULES
from modelyard.spec.deployment import DeploymentStatus, ModelDeployment
from modelyard.spec.docstrings import docstrings
from modelyard.spec.metadata import API_VERSION
from modelyard.spec.registry import ModelRegistry
from modelyard.spec.rollout import ModelRollout, RolloutSpec, RolloutStatus
from modelyard.units import Duration, Moment, Percentage, Quantity

GROUP, _, VERSION = API_VERSION.partition("/")

OPAQUE: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "x-kubernetes-map-type": "atomic"}
"""Kept as it is. Atomic, or the API server would note an owner for each leaf below."""
_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
SHAPES: Final[Mapping[tuple[type, str], Mapping[str, Any]]] = {
    (RolloutSpec, "serving"): OPAQUE,
    (DeploymentStatus, "alias"): {
        **OPAQUE,
        "properties": {
            "name": {**_TEXT, "description": "The alias; absent where a version is pinned."},
            "version": {**_TEXT, "description": "The version that it named."},
            "digest": {**_TEXT, "description": "sha256 of that version's archive."},
            "observedAt": {**_TIME, "description": "Since when it names this version."},
            "since": {**_TIME, "description": "Since when it has not stood still."},
        },
    },
    (RolloutStatus, "timeline"): {
        "type": "array",
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "required": ["at", "event"],
            "properties": {
                "at": {**_TIME, "description": "When."},
                "event": {**_TEXT, "description": "What, as a constant."},
                "message": {**_TEXT, "description": "What, in words."},
            },
        },
    },
}
"""Fields that look otherwise than their types say. `serving` is frozen: no default of a later release may enter it."""


class Names(NamedTuple):
    """What a kind is called."""

    kind: type
    plural: str
    short: str
    description: str


MADE: Final = "# Made from the types: python -m modelyard.spec.crd charts/modelyard/definitions\n"
KINDS: Final = (
    Names(
        ModelRegistry, "modelregistries", "mreg", "Where the ModelDeployments of its namespace get their versions from."
    ),
    Names(
        ModelDeployment,
        "modeldeployments",
        "mdep",
        "The wish that the version which an alias names serves, brought in by a canary under live analysis.",
    ),
    Names(
        ModelRollout,
        "modelrollouts",
        "mro",
        "One attempt to bring one version in, made by the operator. People set paused, abort, promote and resumed.",
    ),
)


def definition(names: Names) -> Mapping[str, Any]:
    """The CustomResourceDefinition of one kind."""
    kind = names.kind
    hints = get_type_hints(kind, include_extras=True)
    schema: dict[str, Any] = {
        "type": "object",
        "description": names.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this schema."},
            "kind": {"type": "string", "description": "The kind of object."},
            "metadata": {"type": "object"},
            "spec": _record(hints["spec"], with_defaults=True),
            "status": _record(hints["status"], with_defaults=False),
        },
        **_rules(RULES.get(kind, ())),
    }
    columns = [
        {"name": each.name, "type": each.type, "jsonPath": each.path, **({"priority": 1} if each.wide else {})}
        for each in COLUMNS[kind]
    ]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }
    named = {"kind": kind.__name__, "listKind": f"{kind.__name__}List", "plural": names.plural}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{names.plural}.{GROUP}",
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": {"app.kubernetes.io/name": "modelyard", "app.kubernetes.io/part-of": "modelyard"},
        },
        "spec": {
            "group": GROUP,
            "names": {
                **named,
                "singular": kind.__name__.lower(),
                "shortNames": [names.short],
                "categories": ["all", "modelyard"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def schema_of(kind: type) -> Mapping[str, Any]:
    """The structural schema of one kind."""
    found = next(each for each in KINDS if each.kind is kind)
    schema: Mapping[str, Any] = definition(found)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def files() -> Mapping[str, str]:
    """File name → text of each definition."""
    return {
        f"{GROUP}_{names.plural}.yaml": MADE
        + yaml.safe_dump(definition(names), sort_keys=False, width=120, allow_unicode=True)
        for names in KINDS
    }


def _record(kind: type, *, with_defaults: bool) -> dict[str, Any]:
    """A record as an object; without defaults, what the type has a default for may be absent."""
    hints, told = get_type_hints(kind, include_extras=True), _told(kind)
    properties, required = {}, []
    for one in dataclasses.fields(kind):
        name = camel_case(one.name)
        entry = dict(SHAPES.get((kind, name)) or _hinted(hints[one.name], with_defaults=with_defaults))
        entry |= {key: _plain(value) for key, value in FIELDS.get((kind, name), {}).items()}
        if description := told.get(name) or entry.get("description"):
            entry = {"description": description} | entry | {"description": description}  # first, and the field's own
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            required.append(name)
        elif with_defaults and (default := _default(one)) is not None:
            entry["default"] = default
        properties[name] = entry
    description = {"description": _flat(kind.__doc__ or "")}
    needed = {"required": required} if required else {}
    return {**description, "type": "object", **needed, "properties": properties, **_rules(RULES.get(kind, ()))}


def _hinted(hint: Any, *, with_defaults: bool) -> dict[str, Any]:  # noqa: PLR0911  one line for each form
    """The schema of a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint == Moment:
        return dict(_TIME)
    if origin in (Union, UnionType):
        members = [each for each in arguments if each is not NoneType]
        return _hinted(members[0], with_defaults=with_defaults) if len(members) == 1 else _union(members)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is tuple:
        items = _hinted(arguments[0], with_defaults=with_defaults)
        return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}
    if origin is not None and issubclass(origin, Mapping):
        if arguments[1] is Any:
            return dict(OPAQUE)
        return {"type": "object", "additionalProperties": _hinted(arguments[1], with_defaults=with_defaults)}
    if dataclasses.is_dataclass(hint):
        return _record(hint, with_defaults=with_defaults)  # type: ignore[arg-type]
    if issubclass(hint, Duration | Percentage | Quantity):
        return {"type": "string", "pattern": f"^{hint.pattern.replace('(?:', '(')}$", "maxLength": 32}
    if issubclass(hint, StrEnum):
        return {"type": "string", "enum": [each.value for each in hint]}
    return dict(_SCALARS[hint])


_SCALARS: Final[Mapping[type, Mapping[str, Any]]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int64"},
    float: {"type": "number"},
    str: {"type": "string"},
}


def _union(members: list[Any]) -> dict[str, Any]:
    """Records of which each has one field of its own, as steps have: one object, and a rule that one is given."""
    branches = [_record(each, with_defaults=False) for each in members]
    properties = {name: entry for branch in branches for name, entry in branch["properties"].items()}
    given = ", ".join(f"has(self.{name})" for name in properties)
    *most, last = properties
    one = Rule(f"[{given}].exists_one(it, it)", f"give exactly one of {', '.join(most)} and {last}")
    return {
        "type": "object",
        "description": f"One of {', '.join(most)} and {last}.",
        "properties": properties,
        **_rules((one,)),
    }


def _default(one: "dataclasses.Field[Any]") -> Any:
    """A field's default as people would write it; None when there is none, or it is empty.

    A record is `{}`: the API server goes on into it. But it holds a default to its rules before that, so one with rules
    is written out.
    """
    if one.default is dataclasses.MISSING or one.default is None:
        return None
    if dataclasses.is_dataclass(one.default) and type(one.default) not in RULES:
        kind: Any = type(one.default)
        assert one.default == kind(), f"{one.name}: its default is not its type's own: {{}} would be another"
        return {}
    found = adapter(one.type).dump_python(one.default, mode="json", by_alias=True, exclude_none=True)
    if isinstance(found, Mapping):
        found = {name: value for name, value in found.items() if value not in ([], {})}
    return None if found in ([], {}) else found


def _told(kind: type) -> Mapping[str, str]:
    """Field → its docstring."""
    return {camel_case(name): _flat(text) for name, text in docstrings(kind).items()}


def _flat(text: str) -> str:
    return " ".join(text.split())


def _rules(rules: tuple[Rule, ...]) -> dict[str, Any]:
    return {"x-kubernetes-validations": [rule._asdict() for rule in rules]} if rules else {}


def _plain(value: Any) -> Any:
    return [each._asdict() if isinstance(each, Rule) else each for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
