"""The example that the second command of an installation applies, and the page of the API."""

import jsonschema
import pytest
import yaml
from tests.unit.chart.chart import ROOT

from modelyard.spec.api import page
from modelyard.spec.check_deployment import check_serving
from modelyard.spec.crd import schema_of
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.objects import from_object
from modelyard.spec.registry import ModelRegistry

OBJECTS = list(yaml.safe_load_all((ROOT / "examples" / "digits" / "modeldeployment.yaml").read_text()))


@pytest.mark.parametrize("kind", [ModelRegistry, ModelDeployment])
def test_the_example_fits_the_definition_to_the_last_field(kind: type) -> None:
    (found,) = (each for each in OBJECTS if each["kind"] == kind.__name__)
    jsonschema.Draft7Validator(dict(schema_of(kind))).validate(found)
    known = schema_of(kind)["properties"]["spec"]["properties"]
    assert set(found["spec"]) <= set(known)


def test_the_example_is_refused_by_no_check() -> None:
    (found,) = (each for each in OBJECTS if each["kind"] == "ModelDeployment")
    wish = from_object(ModelDeployment, {**found, "metadata": {**found["metadata"], "uid": "1"}})
    assert not list(check_serving(wish.spec, ("spec",)))
    assert wish.spec.traffic.parent_refs


def test_the_page_of_the_api_is_made_from_the_definitions() -> None:
    shipped = (ROOT / "docs" / "api.md").read_text()
    assert shipped == page(), "run: python -m modelyard.spec.api docs/api.md"
    assert "`traffic.parentRefs[].name`" in shipped
