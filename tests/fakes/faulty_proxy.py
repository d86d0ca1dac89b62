"""A proxy that stands before a real S3 server and spoils what it is told to: cut, slow, refused, short."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass(kw_only=True)
class Fault:
    """What is done to requests.

    `cut up` drops the connection in the middle of the client's body, `cut down` in the middle of the answer; `short`
    answers half of the object as if it were all; `slow` answers nothing until the test ends; a code, such as
    `SlowDown`, is answered with that status and reason; an empty one lets requests pass.
    """

    what: str
    status: int = 503
    method: str = ""
    """Only requests of this method; all when empty."""
    times: int = 1
    """So often; -1: always."""
    header: tuple[str, str] | None = None
    """Of the answer."""


@dataclass
class Faulty:
    """The proxy's address and what it saw."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """(method, path with query) of each request."""
    ended: threading.Event = field(default_factory=threading.Event)

    def fault_for(self, method: str) -> Fault | None:
        """The next fault that is meant for such a request."""
        for one in self.faults:
            if one.method in ("", method) and one.times:
                one.times -= 1
                return one if one.what else None
        return None


class _Handler(BaseHTTPRequestHandler):
    state: Faulty
    address: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        """Say nothing."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do(self) -> None:
        self.state.seen.append((self.command, self.path))
        length = int(self.headers.get("Content-Length") or 0)
        fault = self.state.fault_for(self.command)
        if fault and fault.what == "cut up":
            self.rfile.read(length // 2)
            self.drop()
            return
        body = self.rfile.read(length)
        if fault and fault.what == "slow":
            self.state.ended.wait(30)
            self.drop()
            return
        if fault and fault.what not in ("cut down", "short"):
            self.refuse(fault)
            return
        self.forward(body, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do  # noqa: N815 - the base class's

    def forward(self, body: bytes, fault: Fault | None) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        length = int(answer.getheader("Content-Length") or len(content))
        sent = content[: len(content) // 2] if fault else content
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent) if fault and fault.what == "short" else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)
        connection.close()
        if fault and fault.what == "cut down":
            self.drop()

    def refuse(self, fault: Fault) -> None:
        said = f"<Error><Code>{fault.what}</Code><Message>as the test wants it</Message></Error>".encode()
        self.send_response(fault.status)
        for name, value in [fault.header] if fault.header else []:
            self.send_header(name, value)
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    def drop(self) -> None:
        self.wfile.flush()
        self.close_connection = True


@contextmanager
def faulty(upstream: str) -> Iterator[Faulty]:
    """Run the proxy before `http://host:port`."""
    handler = type("Handler", (_Handler,), {"address": upstream.removeprefix("http://")})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state = handler.state = Faulty(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        server.server_close()
