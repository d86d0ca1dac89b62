"""A real Envoy before servers that behave as told."""

import contextlib
import itertools
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest
from tests.integration.laptop.asking import KEY, post

from modelyard.errors import BadInput, Conflict
from modelyard.processes import free_port, wait_until
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.spec.deployment import DeploymentSpec, ModelRef, Traffic

pytestmark = pytest.mark.process


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
