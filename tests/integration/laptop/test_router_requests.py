"""What a real Envoy lets through, and what it does with requests that are odd."""

import itertools
import socket

import httpx
import pytest
from tests.integration.laptop.asking import post

pytestmark = pytest.mark.process


def test_a_body_of_50_megabytes_is_refused_with_413_and_reaches_no_server(router, stub, put, share):
    server = stub()
    put("a1", server)
    share(a1=100)
    assert post(router, body=b"x" * 50_000_000).status_code == 413
    assert post(router, body=b"x" * 1_900_000).status_code == 200
    assert (server.seen, server.bytes_seen) == (1, 1_900_000)


def test_a_large_body_is_still_retried(router, stub, put, share):
    turns = itertools.count()
    put("a1", stub(code=lambda: 500 if next(turns) == 0 else 200))
    share(a1=100)
    assert post(router, body=b"x" * 1_900_000).status_code == 200


def test_a_request_that_is_not_sent_to_its_end_times_out_and_reaches_no_server(router, stub, put, share):
    server = stub()
    put("a1", server)
    share(a1=100)
    with socket.create_connection(("127.0.0.1", int(router.url.rpartition(":")[2])), timeout=10) as client:
        client.sendall(b"POST /predictions/digits HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        assert client.recv(1000).startswith(b"HTTP/1.1 408")
    assert server.seen == 0


def test_a_clients_own_headers_change_no_timeout_and_no_retry(router, stub, put, share):
    server = stub(code=404)
    put("a1", server)
    share(a1=100)
    post(
        router,
        headers={
            "x-envoy-max-retries": "9",
            "x-envoy-retry-on": "retriable-4xx,5xx",
            "x-envoy-retriable-status-codes": "404",
        },
    )
    assert server.seen == 1


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/v1/models/other:predict", 404),
        ("GET", "/v1/models/digits:predict", 405),
        ("POST", "/models", 404),
        ("POST", "/v1/models/digits:predict/..", 404),
    ],
    ids=["an unknown model", "no POST", "TorchServe's management", "a longer path"],
)
def test_nothing_but_predictions_goes_through(router, stub, put, share, method, path, code):  # noqa: PLR0917
    server = stub()
    put("a1", server)
    share(a1=100)
    answer = httpx.request(method, router.url + path)
    assert answer.status_code == code
    assert server.seen == 0
    assert ("Models here: /v1/models/digits:predict" in answer.text) == (code == 404)


def test_a_model_without_weights_says_that_nothing_is_live(router, stub, put):
    put("a1", stub())
    answer = post(router)
    assert answer.status_code == 503
    assert "no live version" in answer.json()["error"]
