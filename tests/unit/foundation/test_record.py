"""A record is frozen, keyword-only, camelCase outside, and refuses what it does not know."""

import dataclasses
from collections.abc import Mapping
from dataclasses import field

import pytest

from modelyard.errors import BadInput
from modelyard.record import camel_case, record
from modelyard.spec.codec import from_data, from_json, to_data, to_json


@record
class Inner:
    batch_size: int = 1


@record
class Outer:
    with_: Mapping[str, int] = field(default_factory=dict)
    tracking_uri: str | None = None
    inner: Inner = Inner()
    loss: float = 0.0


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("name", "name"), ("batch_size", "batchSize"), ("tracking_uri", "trackingURI"), ("from_", "from"),
        ("not_worse_than_champion", "notWorseThanChampion"), ("uri", "uri"),
    ],
)  # fmt: skip
def test_names_are_spelled_as_kubernetes_does(name: str, spelled: str) -> None:
    assert camel_case(name) == spelled


def test_a_record_cannot_be_changed_and_takes_keywords_only() -> None:
    one = Inner(batch_size=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.batch_size = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Inner(2)  # type: ignore[misc]


def test_a_record_survives_json() -> None:
    one = Outer(with_={"a": 1}, tracking_uri="http://x", inner=Inner(batch_size=8))
    assert to_data(one) == {"with": {"a": 1}, "trackingURI": "http://x", "inner": {"batchSize": 8}, "loss": 0.0}
    assert from_json(Outer, to_json(one)) == one


def test_what_is_none_is_left_out() -> None:
    assert "trackingURI" not in to_data(Outer())


def test_equal_records_are_equal_bytes() -> None:
    assert to_json(Outer(with_={"a": 1, "b": 2})) == to_json(Outer(with_={"b": 2, "a": 1}))


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_json_does_not_have_survive_it(number: float) -> None:
    assert repr(from_json(Outer, to_json(Outer(loss=number))).loss) == repr(number)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inner": {"batchsize": 2}}, "run.json: inner.batchsize"),
        ({"inner": {"batchSize": "x"}}, "run.json: inner.batchSize"),
        ([], "run.json: the whole"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_field(data: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        from_data(Outer, data, where="run.json")


def test_what_is_no_json_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"run\.json is not JSON"):
        from_json(Outer, "{", where="run.json")
