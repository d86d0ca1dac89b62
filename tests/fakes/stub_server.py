"""A server that answers as it is told, where a test needs no model."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Stub:
    """A server on 127.0.0.1 whose answers can be changed at any time; counts what reached it."""

    code: int | str | Callable[[], int | str] = 200
    delay_s: float = 0.0
    label: str = ""
    """The predicted class that it tells."""
    seen: int = 0
    paths: set[str] = field(default_factory=set)
    bytes_seen: int = 0
    busy: int = 0

    def __post_init__(self) -> None:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                stub.seen += 1
                stub.bytes_seen += len(body)
                stub.paths.add(self.path)
                code = stub.code() if callable(stub.code) else stub.code
                stub.busy += 1
                if stub.delay_s:
                    time.sleep(stub.delay_s)
                stub.busy -= 1
                if code == "reset":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                self.send_response(int(code))
                self.send_header("content-length", "2")
                if stub.label:
                    self.send_header("x-modelyard-class", stub.label)
                self.end_headers()
                self.wfile.write(b"{}")
                if stub.gone:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    super().handle()

        self.gone = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def die(self) -> None:
        """Refuse new connections, and end the old ones with the next request."""
        self.gone = True
        self.code = "reset"
        self._server.shutdown()
        self._server.server_close()


@dataclass
class StubServer:
    """A `ModelServer` around a stub: becomes ready, fails or dies when told."""

    stub: Stub = field(default_factory=Stub)
    archive: bytes = b""
    is_ready: bool = True
    is_alive: bool = True
    failure: str | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    seen_at_stop: int = -1
    busy_at_stop: int = -1

    def __post_init__(self) -> None:
        self.port = self.stub.port

    def alive(self) -> bool:
        return self.is_alive

    def warm_up(self) -> None:
        """It is as fast as it will be."""

    def ready(self) -> bool:
        return self.is_ready

    def stop(self, grace: float = 0.0) -> None:
        self.seen_at_stop, self.busy_at_stop = self.stub.seen, self.stub.busy
        if not self.stub.gone:
            self.stub.die()
        self.stopped.set()
