"""What a real Envoy counts of each arm: attempts, errors, latencies."""

import itertools

import httpx
import psutil
import pytest
from tests.integration.laptop.asking import KEY, counts, post

from modelyard.processes import wait_until
from modelyard.rollout.laptop.counters import EnvoyCounters

pytestmark = pytest.mark.process


def test_a_retry_that_saved_the_client_counts_as_an_error(router, stub, put, share):
    """Tried with Envoy 1.40: clients saw 100 of 100 answers, and only `upstream_rq_retry` moved."""
    turns = itertools.count()
    server = stub(code=lambda: 503 if next(turns) % 4 == 0 else 200)
    put("a1", server)
    share(a1=100)
    codes = [post(router).status_code for _ in range(30)]
    assert set(codes) == {200}
    seen = counts(router, "a1", server.seen, 30)
    assert (seen.requests, seen.errors) == (40, 10)


def test_retries_stay_within_the_arm_that_was_drawn(router, stub, put, share):
    good, bad = stub(), stub(code=500)
    put("a1", good)
    put("a2", bad)
    share(a1=50, a2=50)
    answers = [post(router) for _ in range(40)]
    assert {(a.headers["x-modelyard-arm"], a.status_code) for a in answers} == {("a1", 200), ("a2", 500)}
    failed = sum(a.status_code == 500 for a in answers)
    assert bad.seen == 2 * failed
    assert good.seen == 40 - failed


def test_a_killed_replica_fails_no_client_where_another_one_stands_and_is_still_evidence(
    router, stub, put, share, load
):
    replicas = [stub(), stub()]
    put("a1", *replicas)
    share(a1=100)
    client = load(router.url + "/predictions/digits")
    client.until(100)
    replicas[0].die()
    client.until(300)
    client.stop()
    assert client.failed == 0, (client.broken, client.answers)
    assert counts(router, "a1", 400, 400).errors > 0


def test_a_hanging_replica_fails_no_client_where_another_one_stands(router, stub, put, share):
    replicas = [stub(delay_s=3.0), stub()]
    put("a1", *replicas, timeout="2s")
    share(a1=100)
    assert {post(router).status_code for _ in range(6)} == {200}
    assert counts(router, "a1", 6, 6).errors >= 1


@pytest.mark.parametrize(
    ("code", "requests", "errors", "answers"),
    [(200, 1, 0, 1), (400, 1, 1, 1), (404, 1, 1, 1), (500, 2, 2, 0), (507, 2, 2, 0), ("reset", 2, 2, 0)],
    ids=[
        "an answer is no error",
        "a refusal is an error of its arm: both arms get the same requests",
        "so is a 404",
        "a 500 and its retry are two errors",
        "a dead worker's 507 and its retry are two errors",
        "a reset and its retry are two errors",
    ],
)
def test_what_counts_as_an_error(router, stub, put, share, code, requests, errors, answers):  # noqa: PLR0917
    put("a1", stub(code=code))
    share(a1=100)
    post(router)
    seen = counts(router, "a1", requests, answers)
    assert (seen.requests, seen.errors, seen.latency[-1]) == (requests, errors, answers)


def test_a_timeout_counts_as_an_error(router, stub, put, share):
    put("a1", stub(delay_s=2), timeout="1s", retries=0)
    share(a1=100)
    assert post(router).status_code == 504
    seen = counts(router, "a1", 1, 0)
    assert (seen.requests, seen.errors) == (1, 1)


def test_an_arm_without_a_server_answers_503_with_its_name_and_counts_as_an_error(router, put, share):
    put("a1")
    share(a1=100)
    answer = post(router)
    assert (answer.status_code, answer.headers["x-modelyard-arm"]) == (503, "a1")
    seen = counts(router, "a1", 1, 0)
    assert (seen.requests, seen.errors) == (1, 1)


def test_a_client_that_gave_up_is_no_error_of_the_arm(router, stub, put, share):
    server = stub(delay_s=0.5)
    put("a1", server)
    share(a1=100)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(router.url + "/predictions/digits", content=b"x", timeout=0.2)
    assert post(router).status_code == 200
    seen = counts(router, "a1", 1, 1)
    assert (server.seen, seen.requests, seen.errors) == (2, 1, 0)


def test_latencies_below_a_millisecond_are_told_apart(router, stub, put, share):
    """Envoy's own `upstream_rq_time` is in whole milliseconds, its default buckets begin at 0.5, 1, 5, 10."""
    put("a1", stub())
    put("a2", stub(delay_s=0.004))
    share(a1=50, a2=50)
    with httpx.Client() as client:
        for _ in range(200):
            client.post(router.url + "/predictions/digits", content=b"x")
    fast, slow = counts(router, "a1", 50, 50), counts(router, "a2", 50, 50)

    below = fast.bounds.index(4.0)
    assert slow.latency[below] == 0
    assert len(set(fast.latency[:below]) - {0}) > 3  # how many answers are that fast, a busy machine decides


def test_an_arm_that_envoy_does_not_know_is_absent_and_one_without_traffic_is_zero(router, put):
    put("a1")
    seen = EnvoyCounters(router).counts(KEY)
    assert set(seen) == {"a1"}
    assert (seen["a1"].requests, seen["a1"].errors, set(seen["a1"].latency)) == (0, 0, {0})


def test_counters_are_absent_while_envoy_is_away_and_begin_anew(router, stub, put, share):
    put("a1", stub())
    share(a1=100)
    post(router)
    counts(router, "a1", 1, 1)
    url = router.url
    psutil.Process(router.envoy.pid).kill()
    wait_until(lambda: not router.envoy.alive(), deadline_s=5, what="Envoy's end")
    assert EnvoyCounters(router).counts(KEY) == {}
    assert router.weights(KEY).confirmed is None
    router.start()
    assert router.url == url
    assert router.weights(KEY).confirmed == {"a1": 100}
    assert post(router).status_code == 200
    assert counts(router, "a1", 1, 1).requests == 1
