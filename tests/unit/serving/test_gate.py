"""The door of a pod: what passes, what is counted, and how it closes."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import pairwise

import httpx
import pytest
from tests.fakes.stub_server import Stub

from modelyard.processes import free_port
from modelyard.serving.gate import Gate
from modelyard.serving.tally import BOUNDS_S, CLIENT_GONE, Tally

Scene = Callable[[Gate, str], Awaitable[None]]


def play(scene: Scene, *, port: int | None = None, most: int = 1000) -> Tally:
    """Let a scene happen before an open gate."""

    async def run() -> Tally:
        tally = Tally()
        gate = Gate(port=port or free_port(), model="digits", tally=tally, told={"x-modelyard-arm": "a1"}, most=most)
        gate.open = True
        taken = await gate.door.listen("127.0.0.1", 0)
        try:
            await scene(gate, f"http://127.0.0.1:{taken}")
        finally:
            await gate.door.close(grace=1)
        return tally

    return asyncio.run(run())


@pytest.mark.parametrize("path", ["/predictions/digits", "/v1/models/digits:predict", "/predictions/digits?x=1"])
def test_a_prediction_passes_and_is_counted_with_its_arm(path: str) -> None:
    stub = Stub()

    async def scene(_: Gate, url: str) -> None:
        async with httpx.AsyncClient() as client:
            for _number in range(3):
                answer = await client.post(url + path, content=b"1" * 100)
                assert (answer.status_code, answer.headers["x-modelyard-arm"]) == (200, "a1")

    tally = play(scene, port=stub.port)
    stub.die()
    assert (tally.attempts, tally.errors, sum(tally.buckets)) == (3, 0, 3)
    assert stub.paths == {"/predictions/digits"}
    assert stub.bytes_seen == 300


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/predictions/digits", 405),
        ("GET", "/models", 404),
        ("POST", "/models?url=http://evil/x.mar", 404),
        ("POST", "/predictions/other", 404),
        ("DELETE", "/models/digits", 404),
        ("GET", "/metrics", 404),
    ],
)
def test_nothing_else_passes_or_is_counted(method: str, path: str, code: int) -> None:
    """TorchServe's management API took any archive from anywhere (CVE-2023-43654)."""
    stub = Stub()

    async def scene(_: Gate, url: str) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.request(method, url + path)).status_code == code

    tally = play(scene, port=stub.port)
    stub.die()
    assert (tally.attempts, stub.seen) == (0, 0)


def test_failed_attempts_are_errors_and_have_no_time() -> None:
    stub = Stub(code=500)

    async def scene(_: Gate, url: str) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"{url}/predictions/digits")).status_code == 500
            stub.code = 503
            assert (await client.post(f"{url}/predictions/digits")).status_code == 503
            stub.code = "reset"
            assert (await client.post(f"{url}/predictions/digits")).status_code == 502

    tally = play(scene, port=stub.port)
    stub.die()
    assert (tally.attempts, tally.errors, sum(tally.buckets)) == (3, 3, 0)


def test_a_refusal_by_the_model_is_an_error_and_has_a_time() -> None:
    stub = Stub(code=400)

    async def scene(_: Gate, url: str) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"{url}/predictions/digits")).status_code == 400

    tally = play(scene, port=stub.port)
    stub.die()
    assert (tally.attempts, tally.errors, sum(tally.buckets)) == (1, 1, 1)


def test_a_server_that_is_not_there_is_502_and_one_that_is_not_ready_503() -> None:
    async def scene(gate: Gate, url: str) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"{url}/predictions/digits")).status_code == 502
            gate.open = False
            assert (await client.post(f"{url}/predictions/digits")).status_code == 503

    assert play(scene).errors == 2


def test_a_body_that_is_too_large_is_413_and_reaches_no_server() -> None:
    stub = Stub()

    async def scene(_: Gate, url: str) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"{url}/predictions/digits", content=b"1" * 1001)).status_code == 413
            assert (await client.post(f"{url}/predictions/digits", content=b"1" * 1000)).status_code == 200

    play(scene, port=stub.port)
    stub.die()
    assert stub.seen == 1


def test_an_attempt_that_its_router_gave_up_is_an_error_whatever_it_says() -> None:
    """A per-try timeout cuts the connection; the server's late 200 must not count for its arm."""
    stub = Stub(delay_s=0.3)

    async def scene(gate: Gate, url: str) -> None:
        async with httpx.AsyncClient(timeout=0.1) as client:
            with pytest.raises(httpx.TimeoutException):
                await client.post(f"{url}/predictions/digits")
        while gate._tally.in_flight:
            await asyncio.sleep(0.01)

    tally = play(scene, port=stub.port)
    stub.die()
    assert tally.codes == {CLIENT_GONE: 1}
    assert sum(tally.buckets) == 0


def test_closing_waits_for_what_is_in_flight_and_takes_nothing_new() -> None:
    stub = Stub(delay_s=0.3)

    async def scene(gate: Gate, url: str) -> None:
        async with httpx.AsyncClient() as client:
            asked = asyncio.create_task(client.post(f"{url}/predictions/digits"))
            while not gate._tally.in_flight:
                await asyncio.sleep(0.01)
            await gate.door.close(grace=5)
            answer = await asked
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            with pytest.raises(httpx.ConnectError):
                await client.post(f"{url}/predictions/digits")

    assert play(scene, port=stub.port).errors == 0
    stub.die()


def test_nonsense_is_answered_400_and_forgotten() -> None:
    async def scene(_: Gate, url: str) -> None:
        def send() -> bytes:
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=5) as client:
                client.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
                return client.recv(100)

        assert b"400" in await asyncio.to_thread(send)

    assert play(scene).attempts == 0


def test_neighbouring_bounds_are_at_most_1_05_apart() -> None:
    assert max(upper / lower for lower, upper in pairwise(BOUNDS_S)) <= 1.05
    assert BOUNDS_S[0] <= 0.001
    assert BOUNDS_S[-1] >= 60


def test_the_metrics_are_what_prometheus_reads() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    tally = Tally()
    for code, seconds in ((200, 0.010), (200, 0.020), (500, 9.0), (400, 0.001)):
        tally.ended(code, seconds)
    found = {family.name: family for family in text_string_to_metric_families(tally.text({"modelyard_ready": 1.0}))}
    assert {sample.labels["code"]: sample.value for sample in found["modelyard_attempts"].samples} == {
        "200": 2, "400": 1, "500": 1,
    }  # fmt: skip
    buckets = [
        sample for sample in found["modelyard_answer_duration_seconds"].samples if sample.name.endswith("_bucket")
    ]
    assert [bucket.value for bucket in buckets] == sorted(bucket.value for bucket in buckets)
    assert buckets[-1].value == 3
    assert found["modelyard_ready"].samples[0].value == 1
