"""Requests over connections that stay open, by the standard library's client.

urllib3's pools take 0.4 ms of CPU a request, most of it to take addresses apart and to put them together again;
`http.client` takes 0.14 ms for the same. With a hundred models that change at once this is what their users wait for.
Watches and logs, which are few and long, stay with urllib3.
"""

import http.client
import select
import ssl
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    data: bytes
    retry_after: str
    """The header; empty: there is none."""


class Wire:
    """Connections to one server. Safe to use from many threads: each request has a connection of its own.

    Args:
        address: URL of the server.
        tls: how it proves who it is, and we who we are; None: by the address without TLS.
        timeout_s: to connect, and between two parts of an answer.
        kept: connections that stay open while nobody asks.
    """

    def __init__(self, address: str, *, tls: ssl.SSLContext | None, timeout_s: float, kept: int) -> None:
        url = urlsplit(address)
        self._host, self._port, self._prefix = url.hostname or "", url.port, url.path
        self._tls, self._timeout_s = tls, timeout_s
        self._idle: deque[http.client.HTTPConnection] = deque(maxlen=kept)

    def ask(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Ask, and read the whole answer. Nothing is asked twice.

        Raises:
            OSError: no connection, no answer in time, or it broke off.
            http.client.HTTPException: what came is no HTTP.
        """
        connection = self._connection()
        try:
            connection.request(method, self._prefix + path, body, headers)
            answer = connection.getresponse()
            whole = Answer(answer.status, answer.read(), answer.headers.get("Retry-After", ""))
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return whole

    def close(self) -> None:
        """Close what nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _connection(self) -> http.client.HTTPConnection:
        """The one that was used last, so that others can be closed by the server; a new one where none is open."""
        while True:
            try:
                found = self._idle.pop()
            except IndexError:
                break
            if found.sock is not None and not _readable(found):
                return found
            found.close()
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        if len(self._idle) < (self._idle.maxlen or 0):
            self._idle.append(connection)
        else:
            connection.close()


def _readable(connection: http.client.HTTPConnection) -> bool:
    """Whether something came that nobody asked for: the server has closed it."""
    found = select.poll()
    found.register(connection.sock, select.POLLIN)
    return bool(found.poll(0))
