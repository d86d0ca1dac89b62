"""One port for the kubelet (`/healthz`, `/readyz`), for Prometheus (`/metrics`) and for hints (`/webhooks/…`)."""

import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import structlog

from modelyard_operator.webhooks import is_authentic

BODY_LIMIT = 1 << 20
"""Bytes of a hint that are read at most."""

log = structlog.get_logger()

Trouble = Callable[[], str]
"""Why it is not well; empty: it is."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    pages: ClassVar[dict[str, Callable[[], tuple[int, bytes]]]] = {}
    secret_of: Callable[[str], str]
    hint: Callable[[str], None]
    timeout = 10.0

    def do_GET(self) -> None:
        """A page."""
        page = self.pages.get(self.path.partition("?")[0])
        self._answer(*(page() if page is not None else (404, b"there is no such page\n")))

    def do_POST(self) -> None:
        """A hint for the ModelRegistry `/webhooks/<namespace>/<name>`."""
        parts = self.path.strip("/").split("/")
        length = self.headers.get("Content-Length", "")
        if len(parts) != 3 or parts[0] != "webhooks" or not length.isdecimal() or int(length) > BODY_LIMIT:
            self._answer(404, b"hints go to /webhooks/<namespace>/<registry>\n")
            return
        body, registry = self.rfile.read(int(length)), f"{parts[1]}/{parts[2]}"
        headers = {name.lower(): value for name, value in self.headers.items()}
        cls = type(self)
        if not is_authentic(headers, body, secret=cls.secret_of(registry), now=time.time()):
            self._answer(401, b"the signature does not hold\n")
            return
        cls.hint(registry)
        self._answer(202, b"")

    def log_message(self, *_: object) -> None:
        """Probes are no news."""

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    """Many requests at once; who gives up before its answer is no news."""

    daemon_threads = True

    def handle_error(self, _request: object, client_address: object) -> None:
        """A request ended by an exception."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            log.error("a request crashed", client=str(client_address), exc_info=error)


class Probes:
    """The port, served until `stop`."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        health: Trouble,
        readiness: Trouble,
        metrics: Callable[[], bytes],
        secret_of: Callable[[str], str],
        hint: Callable[[str], None],
    ) -> None:
        def told(trouble: Trouble) -> Callable[[], tuple[int, bytes]]:
            def page() -> tuple[int, bytes]:
                why = trouble()
                return (503, f"{why}\n".encode()) if why else (200, b"ok\n")

            return page

        members = {
            "pages": {"/healthz": told(health), "/readyz": told(readiness), "/metrics": lambda: (200, metrics())},
            "secret_of": staticmethod(secret_of),
            "hint": staticmethod(hint),
        }
        self._server = _Server(address, type("Bound", (Handler,), members))
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
