"""What clients may send, and what they get: with a real TorchServe."""

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from tests.fakes.small_model import image_of, request_of
from tests.integration.serving.conftest import Start

from modelyard.processes import wait_until
from modelyard.serving.torchserve import MAX_REQUEST_BYTES, Server, _UnixConnection
from modelyard.spec.deployment import TorchServe
from modelyard.units import Duration

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_a_ready_server_answers(server: Server) -> None:
    assert server.ready()
    assert server.ask(request_of(0)) == (200, {"answer": "left"})
    assert server.ask(request_of(1)) == (200, {"answer": "middle"})
    assert server.restarts == 0
    assert server.failure is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"null", "application/json"),
        (b'{"imag": 1}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"hello", "text/plain"),
        (b"\x89PNG\r\n\x1a\nnothing", "image/png"),
        (b"\xff" * 1000, "application/octet-stream"),
    ],
    ids=["empty", "broken JSON", "null", "no image in it", "deep JSON", "text", "broken PNG", "noise"],
)
def test_a_request_that_is_no_image_is_the_clients_fault(server: Server, body: bytes, content_type: str) -> None:
    status, answer = server.ask(body, content_type=content_type)
    assert status == 400
    assert server.ask(request_of(0))[0] == 200
    assert server.restarts == 0
    assert "error" in answer or answer["code"] == 400


def test_json_that_curl_sends_as_a_form_is_told_to_name_its_type(server: Server) -> None:
    status, answer = server.ask(request_of(0), content_type="application/x-www-form-urlencoded")
    assert status == 400
    assert "Content-Type: application/json" in answer["error"]


def test_a_recipe_that_raises_is_the_servers_fault_and_shows_nothing_of_the_inside(server: Server) -> None:
    status, answer = server.ask(request_of(2))
    assert (status, answer) == (500, {"error": "the model could not answer"})
    log = server.child.log
    wait_until(lambda: "cannot say right" in log.read_text(), deadline_s=10, what="the reason in the log")


def test_a_model_that_raises_is_the_servers_fault(server: Server) -> None:
    assert server.ask(json.dumps({"image": image_of(0, 999).tolist()}).encode())[0] == 500
    assert server.ask(request_of(0))[0] == 200


def test_a_request_of_50_mb_is_refused_as_too_large(server: Server) -> None:
    size = 50_000_000
    assert size > MAX_REQUEST_BYTES
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"POST /predictions/{server.name} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        try:
            for _ in range(size // 1_000_000):
                connection.sendall(b"x" * 1_000_000)
        except OSError:
            pass  # it need not listen to the end
        assert connection.recv(12) == b"HTTP/1.1 413"
    assert server.ask(request_of(0))[0] == 200


def test_requests_that_are_not_sent_to_the_end_hold_nobody_up(server: Server) -> None:
    """More of them than TorchServe has threads; the router's timeouts end them (here: their client)."""
    body = request_of(0)
    half = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(12)]
    try:
        for connection in half:
            head = f"POST /predictions/{server.name} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[: len(body) // 2])
        assert server.ask(request_of(1), timeout_s=10) == (200, {"answer": "middle"})
        assert server.ready()
    finally:
        for connection in half:
            connection.close()
    assert server.ask(request_of(1)) == (200, {"answer": "middle"})


def test_a_chunked_request_is_answered(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = request_of(0)
    connection.request(
        "POST",
        f"/predictions/{server.name}",
        iter([body[:50], body[50:]]),
        {"Content-Type": "application/json"},
        encode_chunked=True,
    )
    assert connection.getresponse().status == 200
    connection.close()


def test_only_127_0_0_1_is_bound_and_management_is_a_private_socket(server: Server) -> None:
    listening = [c.laddr for c in psutil.Process(server.child.pid).net_connections("inet") if c.status == "LISTEN"]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    room = server.room.path
    assert room.stat().st_mode & 0o077 == 0
    assert (room / "management").is_socket()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/models?url=http://127.0.0.1:1/evil.mar"), ("DELETE", "/models/thirds")],
    ids=["register", "remove"],
)
def test_no_model_can_be_registered_or_removed(server: Server, method: str, path: str) -> None:
    """CVE-2023-43654, and the API of a server that serves one verified archive has nothing to manage."""
    connection = _UnixConnection(server.room.path / "management")
    connection.request(method, path)
    assert connection.getresponse().status in (403, 405)
    connection.close()
    inference = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    inference.request(method, path)
    assert inference.getresponse().status in (404, 405)
    inference.close()
    assert server.ask(request_of(0))[0] == 200


def test_a_client_that_goes_away_leaves_the_worker_free(server: Server) -> None:
    """A worker hung after its client had gone (pytorch/serve #1815)."""
    with pytest.raises(OSError, match="timed out"):
        server.ask(request_of(0, mood="sleep 1"), timeout_s=0.2)
    assert server.ask(request_of(1), timeout_s=20) == (200, {"answer": "middle"})
    assert server.restarts == 0


def test_one_bad_request_in_a_batch_fails_alone(start: Start) -> None:
    server = start(wish=TorchServe(batch_size=4, max_batch_delay=Duration("300ms")))
    bodies = [request_of(0), b"{", request_of(2), request_of(1)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(server.ask, bodies))
    assert [status for status, _ in answers] == [200, 400, 500, 200]
    assert answers[3] == (200, {"answer": "middle"})


def test_a_full_queue_is_503_and_leaves_the_server_ready(server: Server) -> None:
    """A full queue blocked, or was answered 500 (pytorch/serve #2333, kserve/kserve #4247)."""
    slow = request_of(0, mood="sleep 0.03")
    with ThreadPoolExecutor(160) as pool:
        answers = [pool.submit(server.ask, slow) for _ in range(160)]
        seen_ready = [server.ready() for _ in range(5)]
        statuses = [answer.result()[0] for answer in answers]
    assert set(statuses) == {200, 503}
    assert seen_ready == [True] * 5
    assert server.restarts == 0


def test_several_servers_run_side_by_side(server: Server, start: Start) -> None:
    """TorchServe's worker sockets have one name for all servers with one temporary folder."""
    other = start("Polite")
    assert server.ask(request_of(0))[1] == {"answer": "left"}
    assert other.ask(request_of(0))[1] == {"answer": "it would be: left"}
