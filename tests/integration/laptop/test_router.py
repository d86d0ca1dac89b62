"""A real Envoy before servers that behave as told."""

import contextlib
import itertools
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from modelyard.errors import BadInput, Conflict
from modelyard.processes import free_port, wait_until
from modelyard.rollout.laptop.counters import EnvoyCounters
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.spec.deployment import DeploymentSpec, ModelRef, Traffic

pytestmark = pytest.mark.process
KEY = "default/digits"


def post(
    router: EnvoyRouter, body: bytes = b"x", path: str = "/v1/models/digits:predict", **more: object
) -> httpx.Response:
    return httpx.post(router.url + path, content=body, timeout=20, **more)


def counts(router: EnvoyRouter, arm: str, requests: int, answers: int):
    """Counters, once they hold so many attempts and answers."""

    def read():
        found = EnvoyCounters(router).counts(KEY).get(arm)
        return found if found and found.requests >= requests and found.latency[-1] >= answers else None

    return wait_until(read, deadline_s=10, what=f"{requests} attempts and {answers} answers of {arm}")


@pytest.mark.parametrize("path", ["/v1/models/digits:predict", "/predictions/digits"])
def test_both_paths_reach_the_arm_under_the_path_that_torchserve_knows(router, stub, put, share, path):
    server = stub()
    put("a1", server)
    share(a1=100)
    answer = post(router, path=path)
    assert (answer.status_code, answer.headers["x-modelyard-arm"], answer.headers["x-modelyard-version"]) == (
        200,
        "a1",
        "1",
    )
    assert server.paths == {"/predictions/digits"}


def test_weights_of_95_and_5_move_real_traffic(router, stub, put, share):
    old, new = stub(), stub()
    put("a1", old)
    put("a2", new)
    share(a1=95, a2=5)
    with httpx.Client() as client:
        for _ in range(400):
            assert client.post(router.url + "/predictions/digits", content=b"x").status_code == 200
    assert old.seen + new.seen == 400
    assert 4 <= new.seen <= 45  # 20 expected; outside with a chance below 1e-5


def test_a_weight_of_zero_gets_nothing_even_while_its_server_is_still_starting(router, stub, put, share):
    old = stub()
    put("a1", old)
    put("a2")
    share(a1=100, a2=0)
    with httpx.Client() as client:
        assert {client.post(router.url + "/predictions/digits").status_code for _ in range(200)} == {200}


def test_no_request_fails_while_weights_change_and_arms_come_and_go(router, stub, put, share, load):
    """Argo Rollouts #2235, #4390: traffic pointed at pods that were gone."""
    servers = [stub(delay_s=0.002) for _ in range(3)]
    put("a1", servers[0])
    share(a1=100)
    client = load(router.url + "/predictions/digits")
    client.until(50)
    for before, after, server in (("a1", "a2", servers[1]), ("a2", "a3", servers[2])):
        put(after, server)
        for weight in (0, 5, 50, 100):
            share(**{before: 100 - weight, after: weight})
            client.until(30)
        share(**{after: 100})
        wait_until(lambda arm=before: router.load(KEY, arm).active == 0, deadline_s=10, what="a drained arm")
        router.remove_arm(KEY, before)
        client.until(50)
    client.stop()
    assert client.failed == 0, (client.broken, client.answers)
    assert {arm for arm, _ in client.answers} == {"a1", "a2", "a3"}


def test_a_weight_is_not_confirmed_before_envoy_itself_shows_it(router, stub, put, share):
    """Argo Rollouts #701: a weight was taken as applied without reading it back."""
    put("a1", stub())
    put("a2", stub())
    share(a1=100)
    envoy = psutil.Process(router.envoy.pid)
    envoy.suspend()  # the file is written, but nobody reads it
    try:
        router.set_weights(KEY, {"a1": 50, "a2": 50}, expected=router.weights(KEY).resource_version)
        seen = router.weights(KEY)
        assert (seen.asked, seen.confirmed) == ({"a1": 50, "a2": 50}, None)
    finally:
        envoy.resume()
    wait_until(lambda: router.weights(KEY).confirmed == {"a1": 50, "a2": 50}, deadline_s=10, what="the weights")


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
    assert httpx.request(method, router.url + path).status_code == code
    assert server.seen == 0


def test_a_model_without_weights_says_that_nothing_is_live(router, stub, put):
    put("a1", stub())
    answer = post(router)
    assert answer.status_code == 503
    assert "no live version" in answer.json()["error"]


def test_only_loopback_is_bound_and_the_admin_pages_cannot_stop_envoy(router):
    listening = [
        c.laddr.ip for c in psutil.Process(router.envoy.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 2
    assert set(listening) == {"127.0.0.1"}
    assert httpx.post(router.admin + "/quitquitquit").status_code == 403
    assert httpx.post(router.admin + "/drain_listeners").status_code == 403
    assert router.envoy.alive()


@pytest.mark.parametrize("weights", [{"a1": 99}, {"a1": 101}, {"a1": -10, "a2": 110}, {"a1": 50, "a3": 50}])
def test_weights_that_cannot_be_are_refused_and_nothing_changes(router, put, share, weights):
    put("a1")
    put("a2")
    share(a1=100)
    with pytest.raises(BadInput):
        router.set_weights(KEY, weights, expected=router.weights(KEY).resource_version)
    assert router.weights(KEY).asked == router.weights(KEY).confirmed == {"a1": 100}


def test_an_arm_that_the_weights_name_cannot_be_removed(router, put, share):
    put("a1")
    put("a2")
    share(a1=100, a2=0)
    with pytest.raises(Conflict, match="names a2"):
        router.remove_arm(KEY, "a2")


@pytest.mark.parametrize(
    ("traffic", "message"),
    [({"timeout": "0s"}, "timeout 0s"), ({"retries": -1}, "retries is -1"), ({"port": 70000}, "port 70000")],
)
def test_traffic_settings_without_sense_are_refused_and_nothing_changes(router, put, share, traffic, message):
    put("a1")
    share(a1=100)
    with pytest.raises(BadInput, match=message):
        put("a2", **traffic)
    assert set(router.loads(KEY)) == {"a1"}


def test_a_second_deployment_of_the_same_model_name_is_refused(router, put):
    put("a1")
    with pytest.raises(BadInput, match="default/digits already answers"):
        router.put_arm("other/digits", "a1", "1", DeploymentSpec(model=ModelRef(name="digits", alias="champion")))


def test_a_taken_port_is_refused_by_name(router, put):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"traffic.port {port} is taken"):
            put("a1", port=port)


def test_a_port_of_its_own_answers_beside_the_shared_one(router, stub, put, share):
    port = free_port()
    put("a1", stub(), port=port)
    share(a1=100)

    def answered() -> bool:
        try:
            return httpx.post(f"http://127.0.0.1:{port}/predictions/digits").status_code == 200
        except httpx.ConnectError:
            return False

    wait_until(answered, deadline_s=5, what="the deployment's own port")
    assert post(router).status_code == 200


def test_a_new_router_over_the_same_folder_routes_as_before(router, stub, put, share, tmp_path: Path):
    server = stub()
    put("a1", server)
    put("a2")
    share(a1=90, a2=10)
    before = router.weights(KEY)
    router.stop()
    again = EnvoyRouter(tmp_path / "router", log=tmp_path / "envoy.log")
    again.start()
    try:
        assert again.weights(KEY) == before
        assert again.url == router.url
        again.set_endpoints(KEY, "a1", [server.port])
        again.set_endpoints(KEY, "a2", [server.port])
        wait_until(lambda: post(again).status_code == 200, deadline_s=5, what="an answer")
    finally:
        again.stop()


def test_envoy_dies_with_the_process_that_started_it(tmp_path: Path):
    import subprocess
    import sys

    program = (
        "import sys, time; from pathlib import Path; from modelyard.rollout.laptop.router import EnvoyRouter\n"
        "r = EnvoyRouter(Path(sys.argv[1]), log=Path(sys.argv[1]) / 'envoy.log'); r.start()\n"
        "print(r.envoy.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "Envoy outlived its parent"
        time.sleep(0.05)


def test_traffic_settings_that_change_act_without_another_arm(router, stub, put, share):
    """A wish whose `traffic` alone was changed starts no server: the route follows it all the same."""
    turns = itertools.count()
    put("a1", stub(code=lambda: 500 if next(turns) % 2 == 0 else 200))
    share(a1=100)
    router.follow(KEY, Traffic(retries=0))
    wait_until(lambda: post(router).status_code == 500, deadline_s=5, what="an answer without a retry")
    port = free_port()
    router.follow(KEY, Traffic(retries=3, port=port))

    def answered() -> bool:
        with contextlib.suppress(httpx.ConnectError):
            return httpx.post(f"http://127.0.0.1:{port}/predictions/digits").status_code == 200
        return False

    wait_until(answered, deadline_s=5, what="the new port")
    assert router.weights(KEY).confirmed == {"a1": 100}


def test_a_port_that_was_taken_while_envoy_was_away_is_named(router, stub, put, share):
    port = free_port()
    put("a1", stub(), port=port)
    share(a1=100)
    router.envoy.stop()
    with socket.create_server(("127.0.0.1", port)):
        router.start()
        with pytest.raises(BadInput, match=f"traffic.port {port} is taken by another program"):
            router.follow(KEY, Traffic(port=port))
