"""What serves on this machine, and a request to it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelyard.processes import wait_until
from modelyard.rollout.laptop import yard
from modelyard.rollout.laptop.home import Home
from modelyard.rollout.laptop.records import FileRecords
from modelyard.runs.rollout import wish
from modelyard.spec.parse import parse_project

from .conftest import Command

Asked = dict[str, Any]


@pytest.fixture
def router(folder: Path) -> Iterator[Asked]:
    """A router that answers as it is told and remembers what it was asked; the yard seems to be up."""
    asked: Asked = {"status": 200, "answer": b'{"label": "1"}', "version": "3"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked["path"] = self.path
            asked["kind"] = self.headers["content-type"]
            asked["body"] = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(asked["status"])
            self.send_header("x-modelyard-version", asked["version"])
            self.end_headers()
            self.wfile.write(asked["answer"])

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = Home(folder / ".modelyard" / "yard")
    home.path.mkdir(parents=True)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    yard.announce(home, mlflow="http://127.0.0.1:1", router=url, admin=url)
    yield asked
    server.shutdown()
    server.server_close()


def test_predict_sends_a_file_and_prints_the_answer(folder: Path, command: Command, router: Asked) -> None:
    told = command("predict", folder / "request.json", "-p", folder)
    assert told.exit_code == 0
    assert told.stdout == '{"label": "1"}\n'
    assert told.stderr == "version 3\n"
    assert router["path"] == "/v1/models/digits:predict"
    assert router["kind"] == "application/json"
    assert json.loads(router["body"])["image"][3] == [0, 7, 15, 16, 16, 2, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("digit.png", b"\x89PNG...", "image/png"),
        ("digit.jpg", b"\xff\xd8...", "image/jpeg"),
        ("digit", b"\x89PNG...", "application/octet-stream"),
        ("noname", b' {"a": 1}', "application/json"),
    ],
)
def test_predict_names_what_it_sends(  # noqa: PLR0917
    name: str, content: bytes, kind: str, folder: Path, command: Command, router: Asked
) -> None:
    (folder / name).write_bytes(content)
    command("predict", folder / name, "-p", folder)
    assert (router["kind"], router["body"]) == (kind, content)


def test_predict_takes_json_itself(folder: Path, command: Command, router: Asked) -> None:
    command("predict", '{"a": 1}', "-p", folder, "--model", "other")
    assert (router["path"], router["body"]) == ("/v1/models/other:predict", b'{"a": 1}')


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (404, 2, "error: digits is not served here. Bring a version in"),
        (400, 2, "error: digits refused the request (400): not an image. Correct the request."),
        (413, 2, "error: digits refused the request (413)"),
        (500, 1, "error: version 3 of digits answered 500: not an image."),
        (503, 1, "error: version 3 of digits answered 503"),
    ],
)
def test_an_answer_that_is_no_prediction(  # noqa: PLR0917
    status: int, code: int, told: str, folder: Path, command: Command, router: Asked
) -> None:
    router.update(status=status, answer=b"not an image\n")
    refused = command("predict", "{}", "-p", folder)
    assert refused.exit_code == code
    assert refused.stdout == ""
    assert told in refused.stderr


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "cannot be read (No such file or directory)"),
        (lambda path: path.mkdir(), "cannot be read (Is a directory)"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b'{"a": '), "is not JSON"),
        (lambda path: os.truncate(_touched(path), 50_000_001), "has more than 50000000 bytes"),
    ],
)
def test_a_request_that_cannot_be_sent(
    make: Callable[[Path], Any], told: str, folder: Path, command: Command, router: Asked
) -> None:
    make(folder / "bad.json")
    refused = command("predict", folder / "bad.json", "-p", folder)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert "path" not in router


def _touched(path: Path) -> Path:
    path.touch()
    return path


def test_predict_while_nothing_runs_says_how_to_start(folder: Path, command: Command) -> None:
    refused = command("predict", "{}", "-p", folder)
    assert refused.exit_code == 1
    assert "error: the services are down. Start them: modelyard up." in refused.stderr


def test_predict_when_the_router_is_away(folder: Path, command: Command, router: Asked) -> None:
    home = Home(folder / ".modelyard" / "yard")
    yard.announce(home, mlflow="", router="http://127.0.0.1:1", admin="")
    refused = command("predict", "{}", "-p", folder)
    assert refused.exit_code == 1
    assert "the router did not answer" in refused.stderr


def test_status_before_anything(folder: Path, command: Command) -> None:
    told = command("status", "-p", folder)
    assert told.exit_code == 0
    assert "no version has been brought in yet: modelyard run" in told.stdout
    assert "services are down: modelyard up" in told.stdout
    empty = {"services": {}, "deployments": [], "lastRun": None}
    assert json.loads(command("status", "-p", folder, "-o", "json").stdout) == empty


def test_status_shows_what_is_wished_and_where_the_services_are(folder: Path, command: Command, router: Asked) -> None:
    wish(FileRecords(folder / ".modelyard" / "yard" / "records"), parse_project(folder))
    told = json.loads(command("status", "-p", folder, "-o", "json").stdout)
    assert told["services"]["router"].startswith("http://127.0.0.1:")
    assert told["deployments"][0]["model"] == "digits"
    assert told["deployments"][0]["stable"] is None
    assert "champion" in command("status", "-p", folder).stdout


def test_down_when_nothing_runs(folder: Path, command: Command) -> None:
    told = command("down", "-p", folder)
    assert (told.exit_code, told.stdout) == (0, "nothing was running\n")


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("words", [("status",), ("rollout", "status")], ids=" ".join)
def test_watching_ends_with_130_when_it_is_interrupted(
    words: tuple[str, ...], number: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    wish(FileRecords(folder / ".modelyard" / "yard" / "records"), parse_project(folder))
    program = [sys.executable, "-m", "modelyard_cli.main", *words, "--watch", "-p", str(folder)]
    out = tmp_path / "out"
    with out.open("w") as to, subprocess.Popen(program, stdout=to, stderr=subprocess.STDOUT) as watching:
        wait_until(lambda: out.stat().st_size > 0, deadline_s=60, what="the first table")
        watching.send_signal(number)
        assert watching.wait(timeout=30) == 130
    assert "Traceback" not in out.read_text()
