"""JSON Schema of what people write, made from the types: editors complete and check by it.

`python -m modelyard.spec.schema` writes `modelyard.schema.json` beside this file; a test holds it to the
types. A file names it in its first line, `# yaml-language-server: $schema=…`, as `modelyard init` does.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from modelyard.record import camel_case
from modelyard.spec.codec import adapter
from modelyard.spec.docstrings import docstrings
from modelyard.spec.project import ModelProject

FILE = Path(__file__).with_name("modelyard.schema.json")
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def project_schema() -> Mapping[str, Any]:
    """The schema of `modelyard.yaml`."""
    schema = adapter(ModelProject).json_schema(by_alias=True)
    definitions = schema.pop("$defs")
    for name, kind in _records(ModelProject).items():
        _tidy(definitions.get(name, schema), kind)
    return {"$schema": _DRAFT, "title": "modelyard.yaml", **_without_title(schema), "$defs": definitions}


def schema_text() -> str:
    """The schema as the file that is shipped."""
    return json.dumps(project_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


@cache
def _records(kind: type) -> Mapping[str, type]:
    """A record and all that it is made of, by name."""
    found: dict[str, type] = {kind.__name__: kind}
    for hint in get_type_hints(kind).values():
        for below in _parts(hint):
            if dataclasses.is_dataclass(below):
                found |= _records(below)  # type: ignore[arg-type]
    return found


def _parts(hint: Any) -> tuple[Any, ...]:
    return (hint, *(part for argument in get_args(hint) for part in _parts(argument)))


def _tidy(schema: dict[str, Any], kind: type) -> None:
    """Titles in words, defaults as people write them, nothing that says null."""
    properties: dict[str, Any] = schema["properties"]
    told = docstrings(kind)
    for one in dataclasses.fields(kind):
        name = camel_case(one.name)
        entry = properties[name] = _optional(properties[name])
        if one.name in told:
            entry["description"] = told[one.name]
        entry["title"] = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().replace(" uri", " URI").capitalize()
        entry.pop("default", None)
        default = default_of(one)
        if default not in (None, {}, []):
            entry["default"] = default
        properties[name] = entry
    schema["title"] = kind.__name__


def default_of(one: "dataclasses.Field[Any]") -> Any:
    """A field's default as people would write it; None when there is none."""
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    if one.default is dataclasses.MISSING or one.default is None:
        return None
    return adapter(one.type).dump_python(one.default, mode="json", by_alias=True, exclude_none=True)


def _optional(entry: dict[str, Any]) -> dict[str, Any]:
    """`X | null` as X: who does not want a field leaves it out."""
    branches = [branch for branch in entry.get("anyOf", []) if branch != {"type": "null"}]
    if len(branches) == 1:
        rest = {key: found for key, found in entry.items() if key != "anyOf"}
        return {**branches[0], **rest}
    return {**entry, "anyOf": branches} if branches else entry


def _without_title(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: found for key, found in schema.items() if key != "title"}


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
