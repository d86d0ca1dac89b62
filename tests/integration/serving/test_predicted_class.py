"""The class that was predicted, as a real TorchServe tells it."""

import httpx
import pytest
from tests.fakes.small_model import request_of

from modelyard.serving.torchserve import Server

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_each_answer_tells_its_class_whatever_the_recipe_makes_of_it_and_a_failure_tells_none(server: Server) -> None:
    json = {"content-type": "application/json"}
    answers = [httpx.post(server.url, content=request_of(place), headers=json, timeout=30) for place in (0, 1, 0)]
    assert [answer.json() for answer in answers] == [{"answer": "left"}, {"answer": "middle"}, {"answer": "left"}]
    assert [answer.headers["x-modelyard-class"] for answer in answers] == ["left", "middle", "left"]
    assert "x-modelyard-class" not in httpx.post(server.url, content=b"{", headers=json, timeout=30).headers
