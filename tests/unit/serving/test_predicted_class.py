"""The class that a model predicts is told by the handler, counted at the door, and kept from clients there."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from tests.fakes.stub_server import Stub
from tests.unit.serving.test_gate import play

from modelyard.model.facts import Facts
from modelyard.serving import handler
from modelyard.serving.gate import Gate
from modelyard.spec.check_classes import MOST_CLASSES


def test_a_class_of_any_name_is_told_in_characters_that_a_statistic_can_carry() -> None:
    names = ["7", "hot dog", "a.b-c", "grün", "x_y~z", "50%"]
    told = handler.class_headers(names)
    assert [unquote(value) for value in told.values()] == names
    assert not set("".join(told.values())) & set("-. ,:;\"'\\")


@pytest.mark.parametrize("names", [[f"c{n}" for n in range(101)], ["a", ""], ["a", "ß" * 40]], ids=len)
def test_of_classes_that_cannot_all_be_counted_none_is_told(names: list[str]) -> None:
    assert handler.class_headers(names) == {}


def test_the_handler_and_the_specification_allow_as_many_classes() -> None:
    assert handler.MOST_CLASSES == MOST_CLASSES


@pytest.mark.parametrize(
    ("kind", "prediction", "label"),
    [
        ("class", 1, "no"), ("class", "yes", "yes"), ("class", 2, None), ("class", -1, None), ("class", True, None),
        ("class", "maybe", None), ("class", 0.0, None), ("class", [0], None), ("number", 1, None),
    ],
)  # fmt: skip
def test_a_prediction_names_a_class_by_index_or_name(kind: str, prediction: Any, label: str | None) -> None:
    facts = Facts(classes=["yes", "no"], label={"column": "label", "kind": kind})
    assert facts.class_named(prediction) == label


@pytest.mark.parametrize(("code", "counted"), [(200, {"hot%20dog": 3}), (500, {})], ids=["answered", "failed"])
def test_the_door_counts_answers_by_their_class_and_keeps_it_from_clients(code: int, counted: dict[str, int]) -> None:
    stub = Stub(code=code, label="hot%20dog")

    async def scene(_: Gate, url: str) -> None:
        async with httpx.AsyncClient() as client:
            for _number in range(3):
                answer = await client.post(url + "/predictions/digits", content=b"1")
                assert "x-modelyard-class" not in answer.headers

    tally = play(scene, port=stub.port)
    stub.die()
    assert dict(tally.classes) == counted


class Context:
    """What TorchServe gives a handler."""

    def __init__(self) -> None:
        self.headers: dict[int, dict[str, str]] = {}

    def set_response_header(self, index: int, name: str, value: str) -> None:
        self.headers.setdefault(index, {})[name] = value

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def test_only_an_answer_tells_a_class() -> None:
    worker = object.__new__(handler.Worker)
    worker._classes, worker.variant, worker._client_errors = {"7": "7"}, "original", (ValueError,)
    context = Context()
    for index, (answer, label) in enumerate([({"label": 7}, "7"), ({"label": 9}, None), (ValueError("bad"), "7")]):
        worker._response(answer, label, context, index)
    assert [headers.get("x-modelyard-class") for headers in context.headers.values()] == ["7", None, None]
