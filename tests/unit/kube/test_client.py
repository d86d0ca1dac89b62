"""The client against servers that a real API server is not: silent, dying, busy, paging."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from modelyard.errors import BadInput, Expired, Unavailable
from modelyard.kube.client import KubeClient, connect
from modelyard.kube.port import CONFIG_MAP, POD

Answer = Callable[[BaseHTTPRequestHandler, Mapping[str, str]], None]


@contextmanager
def serving(tmp_path: Path, answer: Answer, *, timeout_s: float = 5.0) -> Iterator[KubeClient]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})

        do_POST = do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        kube = connect(kubeconfig(tmp_path, server.server_address[1]), timeout_s=timeout_s)
        yield kube
        kube.close()
        server.shutdown()


def kubeconfig(folder: Path, port: int) -> Path:
    file = folder / "kubeconfig"
    file.write_text(
        json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "a", "user": {"token": "secret"}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        })
    )  # fmt: skip
    return file


def send(handler: BaseHTTPRequestHandler, status: int, body: Any, **headers: str) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def pages(handler: BaseHTTPRequestHandler, query: Mapping[str, str]) -> None:
    first, limit = int(query.get("continue", "0")), int(query.get("limit", "0")) or 1200
    items = [
        {"metadata": {"name": f"a{number:04d}", "managedFields": [{}]}}
        for number in range(first, min(first + limit, 1200))
    ]
    metadata = {"resourceVersion": "7"} | ({"continue": str(first + limit)} if first + limit < 1200 else {})
    send(handler, 200, {"metadata": metadata, "items": items})


def test_a_long_list_comes_in_pages_and_is_whole(tmp_path: Path) -> None:
    asked: list[Mapping[str, str]] = []

    def answer(handler: BaseHTTPRequestHandler, query: Mapping[str, str]) -> None:
        asked.append(query)
        assert handler.headers["Authorization"] == "Bearer secret"
        pages(handler, query)

    with serving(tmp_path, answer) as kube:
        listing = kube.list(POD)
    assert [each["metadata"]["name"] for each in listing.items] == [f"a{number:04d}" for number in range(1200)]
    assert all(each["kind"] == "Pod" and "managedFields" not in each["metadata"] for each in listing.items)
    assert listing.resource_version == "7"
    assert len(asked) == 3


def test_a_list_whose_pages_expired_is_asked_for_in_one(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, query: Mapping[str, str]) -> None:
        if "continue" in query:
            send(handler, 410, {"message": "the continue token is too old"})
        else:
            pages(handler, query)

    with serving(tmp_path, answer) as kube:
        assert len(kube.list(POD).items) == 1200


def test_a_busy_server_says_when_to_come_back(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, _query: Mapping[str, str]) -> None:
        send(handler, 429, {"message": "busy"}, Retry_After="3")

    with serving(tmp_path, answer) as kube, pytest.raises(Unavailable) as told:
        kube.get(CONFIG_MAP, "a", "b")
    assert told.value.retry_after == 3.0


def test_a_silent_server_is_given_up_in_time(tmp_path: Path) -> None:
    silence = threading.Event()
    with serving(tmp_path, lambda *_: silence.wait(20), timeout_s=0.2) as kube:  # type: ignore[arg-type, return-value]
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer about configmaps"):
            kube.apply(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}, manager="m"
            )
        assert time.monotonic() - began < 5
        silence.set()


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    kube = connect(kubeconfig(tmp_path, 1), timeout_s=1)
    with pytest.raises(Unavailable, match="does not answer"):
        kube.list(POD)


def watched(handler: BaseHTTPRequestHandler, *events: Mapping[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for event in events:
        line = json.dumps(event).encode() + b"\n"
        for part in (line[:7], line[7:]):  # events are cut anywhere on the wire
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")


ADDED = {"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "1"}}}


def test_a_watch_that_is_cut_off_is_unavailable_after_what_it_told(tmp_path: Path) -> None:
    """A watch that died and was taken for one that has nothing to say: nolar/kopf #787, #1276."""

    def answer(handler: BaseHTTPRequestHandler, _query: Mapping[str, str]) -> None:
        watched(handler, ADDED)
        handler.close_connection = True

    with serving(tmp_path, answer) as kube:
        watch = kube.watch(POD, resource_version="0", deadline_s=5)
        assert next(watch).object["metadata"]["name"] == "a"
        with pytest.raises(Unavailable):
            next(watch)


def test_a_watch_that_falls_silent_is_unavailable_soon_after_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard.kube.client.SILENCE_S", 0.1)
    silence = threading.Event()

    def answer(handler: BaseHTTPRequestHandler, _query: Mapping[str, str]) -> None:
        watched(handler, ADDED)
        silence.wait(20)

    with serving(tmp_path, answer) as kube:
        watch = kube.watch(POD, resource_version="0", deadline_s=0.2)
        next(watch)
        with pytest.raises(Unavailable):
            next(watch)
        silence.set()


def test_a_watch_that_is_told_that_it_is_too_old_is_expired(tmp_path: Path) -> None:
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
    with serving(tmp_path, lambda handler, _: watched(handler, ADDED, gone)) as kube:
        watch = kube.watch(POD, resource_version="0", deadline_s=5)
        next(watch)
        with pytest.raises(Expired):
            next(watch)


def test_without_a_kubeconfig_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(BadInput, match="no Kubernetes cluster is configured"):
        connect(tmp_path / "none")
