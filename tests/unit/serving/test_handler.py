"""The handler trusts nothing before its digest, and tells a client's fault from its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.small_model import entries_of, small_package

from modelyard.packaging.package import Package
from modelyard.serving import handler
from modelyard.storage.atomic import digest_bytes


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("packed"))


@pytest.fixture
def home(packed: Package, tmp_path: Path) -> Path:
    for name, data in entries_of(packed.archive).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_an_unpacked_archive_that_is_whole_is_accepted(home: Path) -> None:
    digest = digest_bytes((home / "manifest.json").read_bytes())
    assert handler.verify(home, digest)["name"] == "thirds"


@pytest.mark.parametrize("name", ["model/model.safetensors", "modelyard/model/predictor.py", "golden.json"])
def test_a_file_that_was_changed_since_is_refused_by_name(home: Path, name: str) -> None:
    (home / name).write_bytes(b"other")
    with pytest.raises(RuntimeError, match=f"{name} is missing or differs"):
        handler.verify(home, None)


def test_a_file_that_came_since_is_refused_by_name(home: Path) -> None:
    (home / "numpy.py").write_text("import os")
    with pytest.raises(RuntimeError, match=r"numpy\.py does not belong"):
        handler.verify(home, None)


def test_another_manifest_than_the_verified_one_is_refused(home: Path) -> None:
    with pytest.raises(RuntimeError, match=r"manifest\.json has digest .*, not sha256:00"):
        handler.verify(home, "sha256:00")


class Context:
    def __init__(self, **headers: Any) -> None:
        self.headers = headers

    def get_all_request_header(self, _index: int) -> dict[str, Any]:
        return self.headers


@pytest.mark.parametrize(
    ("item", "headers", "wanted"),
    [
        ({"body": b'{"a": 1}'}, {"body": {"content-type": "application/json"}}, {"a": 1}),
        ({"body": b'{"a": 1}'}, {"body": {"content-type": b"application/json; charset=utf-8"}}, {"a": 1}),
        ({"body": b'{"a": 1}'}, {"Content-Type": "application/json"}, {"a": 1}),
        ({"body": bytearray(b"\x89PNG")}, {"body": {"content-type": "image/png"}}, b"\x89PNG"),
        ({"data": b"form"}, {}, b"form"),
        ({"body": {"parsed": True}}, {}, {"parsed": True}),
    ],
    ids=["json", "json with charset", "type in the request's headers", "picture", "form field", "parsed already"],
)
def test_a_body_is_parsed_where_it_says_that_it_is_json(item: dict[str, Any], headers: Any, wanted: Any) -> None:
    assert handler._body(item, Context(**headers), 0) == wanted


@pytest.mark.parametrize("item", [{}, {"body": b"{"}, {"body": b"\xff"}, {"body": b"[" * 100_000}])
def test_a_body_that_is_none_is_the_clients_fault(item: dict[str, Any]) -> None:
    body = handler._body(item, Context(body={"content-type": "application/json"}), 0)
    assert isinstance(body, handler.BadBody)
    assert "Send" in str(body)


def test_a_body_that_came_as_a_form_is_told_to_name_its_type() -> None:
    """What `curl -d` sends where nobody names a type: TorchServe takes the JSON for fields, and hands over nothing."""
    body = handler._body({}, Context(**{"Content-Type": "application/x-www-form-urlencoded"}), 0)
    assert isinstance(body, handler.BadBody)
    assert "Content-Type: application/json" in str(body)


def test_a_worker_tells_how_it_fares_and_whether_it_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_WORKERS", str(tmp_path))
    handler._tell("failed", error="no space left")
    busy = handler._busy_byte()
    busy[0] = 1
    told = json.loads((tmp_path / "events.jsonl").read_text())
    assert (told["event"], told["error"]) == ("failed", "no space left")
    assert (tmp_path / f"busy.{told['pid']}").read_bytes() == b"\1"
