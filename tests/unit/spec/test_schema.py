"""What editors complete by, and the page of fields, say what the types say."""

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

from modelyard.spec.fit import fields_of
from modelyard.spec.metrics import METRICS, metric_kind
from modelyard.spec.problem import nearest
from modelyard.spec.project import ModelProject
from modelyard.spec.reference import reference
from modelyard.spec.schema import FILE, project_schema, schema_text
from modelyard.spec.tree import read, value

ROOT = Path(__file__).parents[3]
PROJECTS = sorted([*ROOT.glob("examples/*/modelyard.yaml"), *ROOT.glob("platform/modelyard_cli/templates/*/*.yaml")])


def test_the_shipped_schema_is_made_from_the_types() -> None:
    assert FILE.read_text() == schema_text(), "run: python -m modelyard.spec.schema"


def test_the_page_of_fields_is_made_from_the_types() -> None:
    page = ROOT / "docs" / "spec.md"
    assert page.read_text() == reference(), "run: python -m modelyard.spec.reference docs/spec.md"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(project_schema())


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_project_that_we_ship_fits_the_schema(path: Path) -> None:
    jsonschema.validate(value(read(path.read_text().replace("{{name}}", "digits"), name=path.name)), project_schema())


def test_the_schema_refuses_unknown_fields_and_missing_units() -> None:
    good = {"metadata": {"name": "a"}, "data": {"source": "x"}, "train": {"recipe": {"use": "r.py:R"}}}
    jsonschema.validate(good, project_schema())
    for bad in ({"epoch": 3}, {"schedule": {"warmup": 5}}, {"schedule": {"warmup": "5"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | {"train": {"recipe": {"use": "r.py:R"}} | bad}, project_schema())


def test_every_field_has_a_title_and_says_what_it_means() -> None:
    schema = project_schema()
    for name, one in {**schema["$defs"], "ModelProject": schema}.items():
        assert one["additionalProperties"] is False, name
        for field, entry in one["properties"].items():
            assert entry["title"], f"{name}.{field}"
            assert "description" in entry or "$ref" in entry, f"{name}.{field} has no docstring"


def test_defaults_are_written_as_people_write_them() -> None:
    schema = project_schema()
    assert schema["$defs"]["Canary"]["properties"]["steps"]["default"][0] == {"setWeight": 5}
    assert schema["$defs"]["Analysis"]["properties"]["falseAlarmRate"]["default"] == "1%"


def test_the_page_names_every_field() -> None:
    page = reference()

    def walk(kind: type, path: str) -> None:
        for name, (below, _) in fields_of(kind).items():
            assert f"`{path}{name}`" in page or f"## `{path}{name}`" in page, f"{path}{name}"
            if dataclasses.is_dataclass(below):
                walk(below, f"{path}{name}.")

    walk(ModelProject, "")


def test_metrics_of_one_class_go_the_way_of_their_average() -> None:
    assert metric_kind("recall:cat") == METRICS["recall"]
    assert metric_kind("accuracy:cat") is None
    assert metric_kind("recall:") is None


def test_the_schema_is_valid_json() -> None:
    assert json.loads(FILE.read_text())["title"] == "modelyard.yaml"


def test_the_names_of_metrics_are_those_that_evaluation_computes() -> None:
    from modelyard.evaluation.metrics import METRICS as COMPUTED

    told = {name: (kind.better, kind.labels) for name, kind in METRICS.items()}
    assert told == {name: (one.better, one.kinds) for name, one in COMPUTED.items()}


@pytest.mark.parametrize(
    ("name", "meant"),
    [("wer", "word-error-rate"), ("balancedAccuracy", "balanced-accuracy"), ("acuracy", "accuracy"), ("zebra", None)],
)
def test_a_name_that_nobody_knows_is_told_the_nearest(name: str, meant: str | None) -> None:
    assert nearest(name, METRICS) == meant
