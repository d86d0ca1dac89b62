"""The door of a pod: every prediction comes through it, so that each attempt is counted and a drain is exact.

HTTP/1.1 in and out, whole requests and answers: TorchServe gets a request only when it has come to its end. Nothing
but predictions of the one model passes; management and metrics of TorchServe are no ports at all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import h11

from modelyard.serving.tally import CLIENT_GONE, Tally

Headers = list[tuple[bytes, bytes]]
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host", b"content-length",
     b"expect", b"proxy-connection"}
)  # fmt: skip
_READ = 1 << 16
_IDLE_S = 120.0
"""A connection without a request is closed after this."""
_CLASS = b"x-modelyard-class"
"""The header in which the handler tells the predicted class: it is counted here, and no client's concern."""
_ANSWER_S = 3600.0
"""No prediction takes longer; routers give up long before."""
_IDLE_CONNECTIONS = 64


@dataclass(frozen=True)
class Request:
    """A whole request."""

    method: str
    path: str
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    code: int
    headers: Headers
    body: bytes


Gone = Callable[[], bool]
"""Whether the client has left."""
Handler = Callable[[Request, Gone], Awaitable[Answer]]


def plain(code: int, text: str, *, kind: str = "text/plain; charset=utf-8") -> Answer:
    """An answer of our own."""
    return Answer(code, [(b"content-type", kind.encode())], text.encode())


class Gate:
    """What stands between the pod's port and TorchServe.

    Args:
        port: where TorchServe listens, on 127.0.0.1.
        model: the model's name.
        tally: where attempts are counted.
        told: headers of each answer.
        most: bytes of a body; a larger one is answered 413.
    """

    def __init__(self, *, port: int, model: str, tally: Tally, told: Mapping[str, str], most: int) -> None:
        self.open = False
        """Whether predictions are let through; before the server is ready they are answered 503."""
        self._backend = Backend(port)
        self._target = f"/predictions/{model}"
        self._paths = (self._target, f"/v1/models/{model}:predict")
        self._tally = tally
        self._told = [(name.lower().encode(), value.encode()) for name, value in told.items()]
        self.door = Door(self._handle, most=most)

    async def _handle(self, request: Request, gone: Gone) -> Answer:
        path = request.path.partition("?")[0]
        if path not in self._paths:
            return plain(404, f"there is nothing at {path}; POST to {self._target}")
        if request.method != "POST":
            return plain(405, "send a POST")
        self._tally.in_flight += 1
        begun = time.perf_counter()
        try:
            answer = await self._ask(request)
        finally:
            self._tally.in_flight -= 1
        # nobody waited for it: that attempt failed, whatever the answer says
        code = CLIENT_GONE if gone() else answer.code
        self._tally.ended(code, time.perf_counter() - begun)
        self._tally.classes.update(value.decode() for name, value in answer.headers if name == _CLASS and code == 200)
        kept = [header for header in answer.headers if header[0] != _CLASS]
        return Answer(answer.code, [*kept, *self._told], answer.body)

    async def _ask(self, request: Request) -> Answer:
        if not self.open:
            return plain(503, "the model is not ready")
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._backend.ask(self._target, request)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            return plain(502, f"the server did not answer: {type(error).__name__}")


class Door:
    """A listening port whose requests are handed on whole."""

    def __init__(self, handle: Handler, *, most: int) -> None:
        self._handle = handle
        self._most = most
        self._server: asyncio.Server | None = None
        self._busy: dict[asyncio.Task[None], bool] = {}
        self._closing = False

    async def listen(self, host: str | None, port: int) -> int:
        """Take connections; gives the port."""
        self._server = await asyncio.start_server(self._connected, host, port, backlog=1024)
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    async def close(self, *, grace: float) -> None:
        """Take no more connections, end those without a request, and wait for the others' answers."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for task, busy in self._busy.items():
            if not busy:
                task.cancel()
        if self._busy:
            await asyncio.wait(set(self._busy), timeout=grace)
        for task in self._busy:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy[task] = False
        try:
            await self._talk(task, reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.CancelledError):
            pass  # the other side is gone, says nothing sensible, or we are closing
        finally:
            del self._busy[task]
            writer.close()

    async def _talk(
        self, task: "asyncio.Task[None]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection = h11.Connection(h11.SERVER)
        while not self._closing:
            try:
                request = await self._request(task, connection, reader, writer)
            except (h11.RemoteProtocolError, _TooLarge) as error:
                code = 413 if isinstance(error, _TooLarge) else error.error_status_hint
                if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await _send(connection, writer, plain(code, str(error)), close=True)
                return
            if request is None:
                return
            answer = await self._handle(request, reader.at_eof)
            await _send(connection, writer, answer, close=self._closing)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()
            self._busy[task] = False

    async def _request(
        self,
        task: "asyncio.Task[None]",
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> Request | None:
        """The next whole request; None when the client is done.

        Raises:
            _TooLarge: its body has more than `most` bytes.
        """
        head: h11.Request | None = None
        parts: list[bytes] = []
        size = 0
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    writer.write(connection.send(go_on) or b"")
                async with asyncio.timeout(_IDLE_S):
                    connection.receive_data(await reader.read(_READ))
            elif isinstance(event, h11.Request):
                head, self._busy[task] = event, True
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self._most:
                    raise _TooLarge(f"more than {self._most} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                target = head.target.decode("latin-1")
                return Request(head.method.decode("latin-1"), target, list(head.headers), b"".join(parts))
            else:  # the connection was closed, or another protocol was asked for
                return None


class _TooLarge(Exception):
    """A body that is not read to its end."""


class Backend:
    """Connections to TorchServe that are used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, path: str, request: Request) -> Answer:
        """Hand a request on.

        Raises:
            OSError: no connection, or it was cut.
        """
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                with suppress(_Stale):
                    return await self._over(reader, writer, path, request, used=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        return await self._over(reader, writer, path, request, used=False)

    async def _over(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, request: Request, *, used: bool
    ) -> Answer:
        connection = h11.Connection(h11.CLIENT)
        headers = [(name, value) for name, value in request.headers if name not in _HOP_BY_HOP]
        headers += [(b"host", b"localhost"), (b"content-length", b"%d" % len(request.body))]
        keep = False
        try:
            writer.write(connection.send(h11.Request(method="POST", target=path, headers=headers)) or b"")
            writer.write(connection.send(h11.Data(data=request.body)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            answer = await _read(connection, reader, used=used)
            keep = connection.their_state is h11.DONE and connection.our_state is h11.DONE
            return answer
        except (BrokenPipeError, ConnectionResetError):
            if used:
                raise _Stale from None
            raise
        finally:
            if keep and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append((reader, writer))
            else:
                writer.close()


class _Stale(Exception):
    """TorchServe closed the connection while nobody used it: the request was not begun."""


async def _read(connection: h11.Connection, reader: asyncio.StreamReader, *, used: bool) -> Answer:
    head: h11.Response | None = None
    parts: list[bytes] = []
    began = False
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_READ)
            if not data and not began:
                raise _Stale if used else ConnectionResetError("closed without an answer")
            began = True
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            kept = [(name, value) for name, value in head.headers if name not in _HOP_BY_HOP]
            return Answer(head.status_code, kept, b"".join(parts))
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("closed without an answer")


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, *, close: bool) -> None:
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    if close:
        headers.append((b"connection", b"close"))
    data = connection.send(h11.Response(status_code=answer.code, headers=headers)) or b""
    data += connection.send(h11.Data(data=answer.body)) or b""
    writer.write(data + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()
