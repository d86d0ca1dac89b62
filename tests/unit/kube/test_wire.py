"""Connections that stay open: what servers and proxies do with them meanwhile."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.unit.kube.test_client import kubeconfig

from modelyard.errors import Unavailable
from modelyard.kube.client import KubeClient, connect
from modelyard.kube.port import CONFIG_MAP
from modelyard.processes import wait_until

WHOLE = b'{"metadata":{"name":"there"}}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE


class Server:
    """Answers each request of each connection as it is told; notes what was asked on which connection."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.asked: list[tuple[int, str]] = []
        self.open: list[socket.socket] = []
        self.answers = [OK]
        """The last one is given for ever."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.open.append(connection)
            threading.Thread(target=self._serve, args=(connection, len(self.open)), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        asked = b""
        with suppress(OSError):  # the other end is gone, or the test is over
            while part := connection.recv(65536):
                asked += part
                if b"\r\n\r\n" in asked:
                    self.asked.append((number, asked.split(b"\r\n")[0].decode()))
                    asked = b""
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    connection.sendall(answer)
                    if answer != OK:
                        connection.close()
                        return

    def hang_up(self) -> None:
        """End every connection, as a server does with those that are idle."""
        for each in self.open:
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.listening.close()
    for each in made.open:
        each.close()


@contextmanager
def connected(file: Path) -> Iterator[KubeClient]:
    kube = connect(file, timeout_s=5.0)
    yield kube
    kube.close()


def there(kube: KubeClient) -> bool:
    return kube.get(CONFIG_MAP, "default", "there") is not None


def test_one_connection_carries_many_requests(server: Server, tmp_path: Path) -> None:
    with connected(kubeconfig(tmp_path, server.port)) as kube:
        assert all(there(kube) for _ in range(5))
    assert {number for number, _ in server.asked} == {1}


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(server: Server, tmp_path: Path) -> None:
    with connected(kubeconfig(tmp_path, server.port)) as kube:
        assert there(kube)
        server.hang_up()
        wire = kube._wire
        assert wire is not None
        (idle,) = wire._idle
        wait_until(lambda: idle.sock.recv(1, socket.MSG_PEEK) == b"", deadline_s=5.0, what="the end of the connection")
        assert there(kube)
    assert [number for number, _ in server.asked] == [1, 2]


@pytest.mark.parametrize(
    "answer", [OK[:-5], b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5"],
    ids=["it breaks off in the body", "nothing comes", "it is no HTTP", "it breaks off in the headers"],
)  # fmt: skip
def test_an_answer_that_is_not_whole_is_no_answer_and_the_next_request_has_a_new_connection(
    server: Server, tmp_path: Path, answer: bytes
) -> None:
    server.answers = [answer, OK]
    with connected(kubeconfig(tmp_path, server.port)) as kube:
        with pytest.raises(Unavailable, match="does not answer about configmaps"):
            there(kube)
        assert there(kube)
    assert [number for number, _ in server.asked] == [1, 2]
