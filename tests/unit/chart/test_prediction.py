"""What `helm test` runs, against servers of the test's own."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from tests.unit.chart.chart import CHART


class Answers(BaseHTTPRequestHandler):
    """An operator that is ready, a model, and something else."""

    def do_GET(self) -> None:
        self._say(200, b"ok\n")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = {"x-modelyard-version": "7"} if self.path == "/predictions/digits" else {}
        self._say(200, b'{"label": "%d"}' % len(body), told | {"x-host": self.headers["Host"]})

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def _say(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ran(**environment: str) -> subprocess.CompletedProcess[str]:
    script = (CHART / "files" / "prediction.py").read_text()
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_prediction_of_a_version_is_shown(url: str) -> None:
    done = ran(OPERATOR=f"{url}/readyz", URL=f"{url}/predictions/digits", HOST="digits.example.com", BODY="[1]")
    assert done.returncode == 0, done.stderr
    assert 'version 7 predicts: {"label": "3"}' in done.stdout


def test_an_answer_of_something_else_is_no_prediction(url: str) -> None:
    done = ran(OPERATOR=f"{url}/readyz", URL=f"{url}/other", HOST="", BODY="[1]")
    assert done.returncode == 1
    assert "is no pod of a ModelDeployment" in done.stderr


def test_without_an_address_it_says_that_nothing_was_asked(url: str) -> None:
    done = ran(OPERATOR=f"{url}/readyz", URL="", HOST="", BODY="")
    assert done.returncode == 0
    assert "no prediction was asked for" in done.stdout
