"""The definitions that a cluster is given say what the types say."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from modelyard.spec.crd import KINDS, files, schema_of
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment, ModelRef
from modelyard.spec.metadata import Metadata
from modelyard.spec.objects import to_object

FOLDER = Path(__file__).parents[3] / "charts" / "modelyard" / "definitions"
METADATA = Metadata(name="digits")
SCHEMAS = {names.kind.__name__: schema_of(names.kind) for names in KINDS}


def fields(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every field below, with its path."""
    for name, entry in schema.get("properties", {}).items():
        yield f"{path}.{name}", entry
        yield from fields(entry, f"{path}.{name}")
    for below in ("items", "additionalProperties"):
        if isinstance(schema.get(below), Mapping):
            yield from fields(schema[below], f"{path}[]")


def rules(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    yield from ((path, each["message"]) for each in schema.get("x-kubernetes-validations", ()))
    for where, entry in fields(schema, path):
        yield from ((where, each["message"]) for each in entry.get("x-kubernetes-validations", ()))


def test_the_shipped_definitions_are_made_from_the_types() -> None:
    shipped = {file.name: file.read_text() for file in FOLDER.glob("*.yaml")}
    assert shipped == files(), "run: python -m modelyard.spec.crd charts/modelyard/definitions"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_says_what_it_means(kind: str) -> None:
    """Else `kubectl explain` shows nothing."""
    silent = [
        path
        for path, entry in fields(SCHEMAS[kind], kind)
        if len(entry.get("description", "")) < 4 and path != f"{kind}.metadata"
    ]
    assert silent == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_list_says_how_it_is_merged(kind: str) -> None:
    """Else an item of a list would silently belong to whoever wrote the list last."""
    lists = [(path, entry) for path, entry in fields(SCHEMAS[kind], kind) if entry.get("type") == "array"]
    assert [path for path, entry in lists if "x-kubernetes-list-type" not in entry] == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_no_field_that_people_write_is_a_number_with_a_fraction(kind: str) -> None:
    assert [path for path, entry in fields(SCHEMAS[kind], kind) if entry.get("type") == "number"] == []


def test_a_frozen_attempt_gets_no_default_of_a_later_release() -> None:
    serving = SCHEMAS["ModelRollout"]["properties"]["spec"]["properties"]["serving"]
    assert serving["x-kubernetes-preserve-unknown-fields"] is True
    assert "properties" not in serving


def test_status_has_no_defaults_that_nobody_observed() -> None:
    for kind, schema in SCHEMAS.items():
        status = schema["properties"]["status"]
        assert [path for path, entry in fields(status, kind) if "default" in entry] == []


def test_the_defaults_of_the_schema_are_those_of_the_types() -> None:
    """An object that was defaulted by an API server is the record that was defaulted by us."""

    def filled(schema: Mapping[str, Any], value: Any) -> Any:
        if isinstance(value, Mapping):
            properties = schema.get("properties", {})
            given = {name: entry["default"] for name, entry in properties.items() if "default" in entry} | dict(value)
            return {name: filled(properties.get(name, {}), below) for name, below in given.items()}
        return [filled(schema.get("items", {}), each) for each in value] if isinstance(value, list) else value

    def bare(value: Any) -> Any:
        """Without what is empty, which is left out or not as one likes."""
        if isinstance(value, Mapping):
            kept = {name: bare(below) for name, below in value.items()}
            return {name: below for name, below in kept.items() if below not in ({}, [])}
        return value

    spec = {"model": {"name": "digits", "alias": "champion"}}
    wish = to_object(ModelDeployment(metadata=METADATA, spec=DeploymentSpec(model=ModelRef(**spec["model"]))))
    assert bare(filled(SCHEMAS["ModelDeployment"]["properties"]["spec"], spec)) == bare(wish["spec"])


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_rule_says_what_to_write_instead(kind: str) -> None:
    words = ("write", "give", "leave", "use", "name", "like", "raise", "choose", "must", "only", "refused")
    vague = [(path, said) for path, said in rules(SCHEMAS[kind], kind) if not any(word in said for word in words)]
    assert vague == []
