"""The API in memory can be made to fail where a real one would: before a write, and after it."""

import pytest
from tests.fakes.cluster import Call, FakeKube

from modelyard.errors import Unavailable
from modelyard.kube.port import CONFIG_MAP

THING = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": {"x": "1"}}


def lose(call: Call) -> None:
    if call.writes:
        raise Unavailable("the answer never came", do="look again")


def test_a_request_that_was_lost_wrote_nothing() -> None:
    kube = FakeKube()
    kube.before = lose
    with pytest.raises(Unavailable):
        kube.apply(THING, manager="m")
    assert (kube.all(CONFIG_MAP), kube.writes) == ((), 0)


def test_an_answer_that_was_lost_comes_after_the_write() -> None:
    kube = FakeKube()
    kube.after = lose
    with pytest.raises(Unavailable):
        kube.apply(THING, manager="m")
    assert [each["data"] for each in kube.all(CONFIG_MAP)] == [{"x": "1"}]


def test_somebody_else_can_write_between_a_read_and_a_write() -> None:
    kube = FakeKube()
    kube.apply(THING, manager="m")
    calls: list[str] = []

    def interfere(call: Call) -> None:
        calls.append(call.verb)
        if call.verb == "replace" and calls.count("apply") == 0:
            kube.apply({**THING, "data": {"x": "2"}}, manager="other", force=True)

    found = kube.get(CONFIG_MAP, "b", "a")
    kube.before = interfere
    assert found is not None
    with pytest.raises(Exception, match="resourceVersion"):
        kube.replace(found, manager="m")


def test_every_call_is_counted_and_named() -> None:
    kube = FakeKube()
    kube.apply(THING, manager="m")
    kube.list(CONFIG_MAP, namespace="b")
    assert [(call.number, call.verb, call.kind, call.name) for call in kube.calls] == [
        (1, "apply", CONFIG_MAP, "a"), (2, "list", CONFIG_MAP, ""),
    ]  # fmt: skip
