"""A server that speaks what we use of Kubeflow Pipelines' API v2beta1; and what stands there instead of one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

Kind = Literal["kfp", "1.x", "login page", "redirect to a login", "refuses", "something else"]


class FakeKfp:
    """What it was told, and what it says of runs."""

    def __init__(self, kind: Kind, token: str) -> None:
        self.kind, self.token = kind, token
        self.pipelines: dict[str, list[str]] = {}
        self.runs: list[dict[str, Any]] = []
        self.recurring: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        """Answers to `get_run`, in order; the last one stays."""
        self.host = ""

    def answer(  # noqa: PLR0911 - one for each path
        self, method: str, path: str, query: dict[str, list[str]], body: Any
    ) -> tuple[int, Any]:
        """Status and JSON."""
        if path == "healthz":
            return 200, {"multi_user": False}
        if path == "pipelines" and method == "GET":
            named = json.loads(query["filter"][0])["predicates"][0].get("stringValue") if "filter" in query else None
            found = [{"pipeline_id": name, "display_name": name} for name in self.pipelines if name == named]
            return 200, {"pipelines": found, "total_size": len(found)}
        if path == "pipelines/upload":
            self.pipelines[query["name"][0]] = [query["name"][0]]
            return 200, {"pipeline_id": query["name"][0]}
        if path == "pipelines/upload_version":
            self.pipelines[query["pipelineid"][0]].append(query["name"][0])
            return 200, {"pipeline_id": query["pipelineid"][0], "pipeline_version_id": query["name"][0]}
        if path.endswith("/versions"):
            names = self.pipelines[path.split("/")[1]]
            return 200, {"pipeline_versions": [{"pipeline_version_id": n, "display_name": n} for n in names]}
        if path == "experiments":
            return 200, {"experiment_id": "e1", "display_name": "digits"} if method == "POST" else {"experiments": []}
        if path == "runs":
            self.runs.append(body)
            return 200, {"run_id": "run-1"}
        if path == "recurringruns":
            self.recurring.append(body)
            return 200, {"recurring_run_id": "every-1"}
        if path.startswith("runs/") and path == "runs/run-1":
            return 200, self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return 404, {"error": f"no {path}", "code": 5}


@contextmanager
def serving(  # noqa: C901 - a handler is a class in a function
    kind: Kind = "kfp", *, token: str = ""
) -> Iterator[FakeKfp]:
    """Serve on 127.0.0.1 while inside."""
    fake = FakeKfp(kind, token)

    class Handler(BaseHTTPRequestHandler):
        def _do(self, method: str) -> None:
            at, body = urlsplit(self.path), self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fake.token and self.headers.get("Authorization") != f"Bearer {fake.token}":
                self._say(401, "application/json", b'{"error": "no"}')
            elif fake.kind == "login page":
                self._say(200, "text/html; charset=utf-8", b"<!doctype html><title>Log in</title>")
            elif fake.kind == "redirect to a login":
                self._say(302, "text/html", b"", location="/dex/auth")
            elif fake.kind == "refuses":
                self._say(403, "application/json", b"{}")
            elif fake.kind == "1.x" and at.path == "/apis/v1beta1/healthz":
                self._say(200, "application/json", b"{}")
            elif fake.kind != "kfp" or not at.path.startswith("/apis/v2beta1/"):
                self._say(404, "application/json", b"{}")
            else:
                plain = self.headers.get("Content-Type", "").startswith("application/json") and body
                path = at.path.removeprefix("/apis/v2beta1/")
                status, said = fake.answer(method, path, parse_qs(at.query), json.loads(body) if plain else body)
                self._say(status, "application/json", json.dumps(said).encode())

        def _say(self, status: int, kind: str, body: bytes, location: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._do("GET")

        def do_POST(self) -> None:
            self._do("POST")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.host = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
