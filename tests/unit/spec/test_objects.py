"""Records become objects of a Kubernetes API, and are the same when they come back."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import BadInput
from modelyard.spec.deployment import Condition, DeploymentSpec, DeploymentStatus, ModelDeployment, ModelRef
from modelyard.spec.metadata import Metadata
from modelyard.spec.objects import from_object, moment, to_object, told

WISH = ModelDeployment(
    metadata=Metadata(name="digits", namespace="vision", resource_version="7", labels={"a": "b"}),
    spec=DeploymentSpec(model=ModelRef(name="digits", alias="champion")),
)
READY = Condition(type="Ready", status="True", reason="StableReady", last_transition_time=1_763_816_506.123)


@given(st.floats(min_value=0, max_value=2e10))
def test_a_moment_is_exact(at: float) -> None:
    assert moment(told(at)) == at


def test_times_are_text_in_an_object() -> None:
    thing = to_object(replace(WISH, status=DeploymentStatus(conditions=(READY,), alias={"observedAt": 1.5})))
    assert thing["status"]["conditions"][0]["lastTransitionTime"] == "2025-11-22T13:01:46.123Z"
    assert thing["status"]["alias"] == {"observedAt": "1970-01-01T00:00:01.5Z"}


def test_a_time_that_never_was_is_left_out() -> None:
    thing = to_object(replace(WISH, status=DeploymentStatus(conditions=(replace(READY, last_transition_time=0.0),))))
    assert "lastTransitionTime" not in thing["status"]["conditions"][0]


def test_a_record_is_the_same_when_it_comes_back_with_what_the_server_adds() -> None:
    record = replace(WISH, status=DeploymentStatus(conditions=(READY,), alias={"version": "7", "observedAt": 0.25}))
    thing: dict[str, Any] = to_object(record)
    thing["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3, "finalizers": []}
    assert from_object(ModelDeployment, thing) == replace(record, metadata=replace(record.metadata, generation=3))


@pytest.mark.parametrize(
    ("path", "value", "told_of"),
    [("paused", [], "spec.paused"), ("unknown", 1, "spec.unknown"), ("model", {"alias": "a"}, "spec.model.name")],
)
def test_an_object_that_does_not_fit_is_named_with_its_field(path: str, value: object, told_of: str) -> None:
    thing = to_object(WISH)
    thing["spec"] = {**thing["spec"], path: value}
    with pytest.raises(BadInput, match=f"ModelDeployment vision/digits: {told_of}"):
        from_object(ModelDeployment, thing)


def test_a_time_that_is_none_is_bad_input() -> None:
    thing = to_object(replace(WISH, status=DeploymentStatus(conditions=(READY,))))
    thing["status"]["conditions"][0]["lastTransitionTime"] = "yesterday"
    with pytest.raises(BadInput, match="vision/digits: 'yesterday' is no time"):
        from_object(ModelDeployment, thing)
