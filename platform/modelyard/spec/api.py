"""The page that lists every field of the API's kinds, made from the definitions that the cluster gets.

`python -m modelyard.spec.api docs/api.md` writes it; a test holds it to the types.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from modelyard.spec.crd import GROUP, KINDS, VERSION, Names, definition

_HEAD: Final = f"""# The API: `{GROUP}/{VERSION}`

Made from the definitions in `charts/modelyard/definitions` (`python -m modelyard.spec.api docs/api.md`).
`kubectl explain modeldeployment.spec` says the same in a terminal. Required fields are **bold**. Durations (`20ms`,
`1h30m`) and percentages (`5%`) carry their unit and are strings; there are no floats. The operator writes `status`.
"""


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *(line for names in KINDS for line in _kind(names))])


def _kind(names: Names) -> Iterator[str]:
    made = definition(names)
    version = made["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    yield from (f"## {names.kind.__name__}", "", names.description, "")
    shown = ", ".join(each["name"].lower() for each in version["additionalPrinterColumns"] if "priority" not in each)
    yield from (f"Short name `{names.short}`; `kubectl get {names.short}` shows {shown}.", "")
    for part in ("spec", "status"):
        entry = schema["properties"][part]
        yield from (f"### `{part}` of a {names.kind.__name__}", "", "| field | value | default | meaning |")
        yield from ("|---|---|---|---|", *_fields(entry, ""), "")
    if refused := [*dict.fromkeys(_refused(schema))]:
        yield from (f"### What is refused in a {names.kind.__name__}", "", *(f"- {each}" for each in refused), "")


def _fields(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """One row for each field below `path`, parents before children."""
    for name, entry in schema.get("properties", {}).items():
        here = f"{path}{name}"
        yield _row(here, entry, required=name in schema.get("required", ()))
        suffix, inner = _inside(entry)
        yield from _fields(inner, f"{here}{suffix}.")


def _inside(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry.get("items"), Mapping):
        return "[]", entry["items"]
    if isinstance(entry.get("additionalProperties"), Mapping):
        return ".<name>", entry["additionalProperties"]
    return "", entry


def _row(path: str, entry: Mapping[str, Any], *, required: bool) -> str:
    default = entry.get("default")
    shown = (
        "" if default in (None, "") or isinstance(default, dict | list) else f"`{json.dumps(default).strip(chr(34))}`"
    )
    name = f"**`{path}`**" if required else f"`{path}`"
    cells = (name, _value(entry), shown, entry.get("description", ""))
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _value(entry: Mapping[str, Any]) -> str:
    if "enum" in entry:
        return ", ".join(f"`{each}`" for each in entry["enum"])
    if entry.get("x-kubernetes-preserve-unknown-fields"):
        return "as Kubernetes has it"
    if entry.get("format") == "date-time":
        return "time"
    names = {
        "object": "mapping",
        "array": "list",
        "string": "text",
        "integer": "whole number",
        "boolean": "true, false",
    }
    kind = str(entry.get("type", "any"))
    return names.get(kind, kind)


def _refused(schema: Any) -> Iterator[str]:
    """Messages of the rules, wherever they stand."""
    if isinstance(schema, Mapping):
        yield from (str(each["message"]) for each in schema.get("x-kubernetes-validations", ()) if "message" in each)
        for name, below in schema.items():
            if name != "x-kubernetes-validations":
                yield from _refused(below)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
