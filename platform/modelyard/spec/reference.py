"""The page that lists every field of `modelyard.yaml`, made from the types like the schema.

`python -m modelyard.spec.reference docs/spec.md` writes it; a test holds it to the types.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelyard.spec.metrics import METRICS
from modelyard.spec.schema import project_schema

_HEAD = """# `modelyard.yaml`, field by field

One file describes one model from data to live traffic. This page is made from the types
(`python -m modelyard.spec.reference docs/spec.md`), as is the schema that editors complete by.
`modelyard validate` checks a file; every error names line, column and the nearest known name.
Unknown fields, fields given twice, and fields that cannot act where they stand are refused.

Durations (`20ms`, `1h30m`) and percentages (`5%`) carry their unit.
Values follow YAML 1.2: `2e-3` is a number, `no` is text.
Any field can be set for one run: `modelyard run --set train.epochs=3 --set gates.0.atLeast=0.9`.

Required fields are **bold**.
"""


def reference() -> str:
    """The page as Markdown."""
    schema = project_schema()
    lines = [_HEAD]
    top = {name: entry for name, entry in schema["properties"].items() if not _below(entry, schema)}
    lines += ["## At the top", "", *_table(schema, top, required=schema["required"])]
    for name, entry in schema["properties"].items():
        rows = list(_rows(name, entry, schema))
        if rows and name not in top:
            text = _record(entry, schema).get("description", "")
            described = entry.get("description") or ("" if text.startswith("The `") else text)
            lines += ["", f"## `{name}`", "", *([described, ""] if described else []), *_HEADER, *rows]
    return "\n".join([*lines, "", *_metrics(), ""])


_HEADER = ("| field | value | default | meaning |", "|---|---|---|---|")


def _table(schema: Mapping[str, Any], entries: Mapping[str, Any], *, required: list[str]) -> Iterator[str]:
    yield from _HEADER
    for name, entry in entries.items():
        yield _row(name, entry, schema, required=name in required)


def _rows(path: str, entry: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """One row for each field below `path`, parents before children."""
    suffix, branches = _below(entry, schema) or ("", [])
    for branch in branches:
        for name, below in branch["properties"].items():
            here = f"{path}{suffix}.{name}"
            yield _row(here, below, schema, required=name in branch.get("required", []))
            yield from _rows(here, below, schema)


def _below(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]]] | None:
    """The records inside a field, and how a path goes on into them: a list's `[]`, a mapping's `.<name>`."""
    suffix = ""
    inner = entry
    if entry.get("type") == "array":
        suffix, inner = "[]", entry["items"]
    elif entry.get("type") == "object" and isinstance(entry.get("additionalProperties"), dict):
        suffix, inner = ".<name>", entry["additionalProperties"]
    found = [_resolved(one, schema) for one in inner.get("anyOf", [inner]) if "$ref" in one]
    return (suffix, found) if found else None


def _resolved(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema["$defs"][entry["$ref"].rsplit("/", 1)[1]]
    return found


def _record(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    below = _below(entry, schema)
    return below[1][0] if below and len(below[1]) == 1 else {}


def _row(path: str, entry: Mapping[str, Any], schema: Mapping[str, Any], *, required: bool) -> str:
    meaning = entry.get("description") or _record(entry, schema).get("description", "")
    default = entry.get("default")
    shown = "" if default is None or isinstance(default, dict | list) else f"`{json.dumps(default).strip(chr(34))}`"
    name = f"**`{path}`**" if required else f"`{path}`"
    cells = (name, _value(entry, schema), shown, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _value(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "enum" in entry:
        return ", ".join(f"`{one}`" for one in entry["enum"])
    if "const" in entry:
        return f"`{entry['const']}`"
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_value(one, schema) for one in entry["anyOf"]))
    if "pattern" in entry:
        return f"like `{entry['examples'][0]}`"
    kind = "object" if "$ref" in entry else entry.get("type", "any")
    names = {
        "object": "mapping",
        "array": "list",
        "string": "text",
        "integer": "whole number",
        "boolean": "true, false",
    }
    return str(names.get(kind, kind))


def _metrics() -> Iterator[str]:
    yield from ("## Metrics", "", "Names that `gates`, `compress.maxDrop` and `train.earlyStopping` may use.", "")
    yield from ("| metric | better | for labels of kind |", "|---|---|---|")
    for name, kind in METRICS.items():
        yield f"| `{name}` | {kind.better} | {', '.join(kind.labels)} |"
    yield from (
        "",
        "One class alone: `precision:cat`, `recall:cat`, `f1:cat`. A recipe's own: declare it under `metrics`.",
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
