"""What may befall a server, and that Ready is never said of one that cannot answer."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.fakes.small_model import request_of
from tests.integration.serving.conftest import Start

from modelyard.errors import BadInput, Busy, StageFailed, Tampered, Unavailable
from modelyard.packaging.package import Package
from modelyard.processes import wait_until
from modelyard.serving.runtime import start_server
from modelyard.serving.torchserve import Server
from modelyard.spec.deployment import Runtime, TorchServe
from modelyard.units import Duration

pytestmark = [pytest.mark.process, pytest.mark.slow]


def only_worker(server: Server) -> int:
    (pid,) = server._workers()
    return pid


def ping(server: Server) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/ping")
    status = connection.getresponse().status
    connection.close()
    return status


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_worker_comes_back_and_until_then_the_server_is_not_ready(start: Start) -> None:
    """A dead worker was reported READY (pytorch/serve #3191); it never came back (#2357)."""
    server = start()
    first = only_worker(server)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not server.ready(), deadline_s=10, what="a server that is not ready")
    assert ping(server) == 200  # so much for /ping
    wait_until(server.ready, deadline_s=60, what="a server that is ready again")
    assert only_worker(server) != first
    assert server.restarts == 1
    assert server.ask(request_of(0)) == (200, {"answer": "left"})


def test_a_request_that_kills_its_worker_is_answered_with_an_error_and_the_next_one_well(start: Start) -> None:
    server = start()
    assert server.ask(request_of(0, mood="die"))[0] >= 500
    wait_until(server.ready, deadline_s=60, what="a server that is ready again")
    assert server.ask(request_of(1)) == (200, {"answer": "middle"})
    assert server.restarts == 1


def test_a_worker_that_hangs_is_replaced(start: Start) -> None:
    """A worker hung for good (pytorch/serve #1815); TorchServe counts in whole seconds."""
    server = start(wish=TorchServe(response_timeout=Duration("1s")))
    assert server.ask(request_of(0, mood="sleep 600"), timeout_s=60)[0] >= 500
    wait_until(lambda: server.restarts == 1 and server.ready(), deadline_s=90, what="another worker")
    assert server.ask(request_of(0))[0] == 200


def test_a_model_that_cannot_be_loaded_is_never_ready_and_says_why(start: Start) -> None:
    """The server was healthy after the model had failed to start (pytorch/serve #2099, kserve #3262)."""
    server = start("BreaksWhenMade", ready=False)
    with pytest.raises(StageFailed, match=r"could not load thirds: .*works in the laboratory only"):
        server.wait_ready(60)
    assert not server.ready()
    assert ping(server) == 200  # so much for /ping


def test_bytes_that_were_changed_after_the_start_are_never_served(start: Start) -> None:
    server = start()
    unpacked = next((server.room.path / "models").rglob("model.safetensors")).resolve()
    data = bytearray(unpacked.read_bytes())
    data[-1] ^= 1
    unpacked.write_bytes(data)
    os.kill(only_worker(server), signal.SIGKILL)
    why = wait_until(lambda: server.failure, deadline_s=60, what="a refusal")
    assert "model.safetensors is missing or differs" in why
    assert not server.ready()
    with contextlib.suppress(OSError):  # an error at once, or none in this time
        assert server.ask(request_of(0), timeout_s=2)[0] >= 500


def test_stopping_lets_what_is_in_flight_end(start: Start) -> None:
    """5xx on SIGTERM (kserve #3360): TorchServe resets what is in flight, so we wait before we tell it."""
    server = start()
    answers: list[tuple[int, object]] = []
    request = threading.Thread(target=lambda: answers.append(server.ask(request_of(0, mood="sleep 1"))))
    request.start()
    wait_until(lambda: server.in_flight() == 1, deadline_s=10, what="a request in flight")
    workers = server._workers()
    server.stop(20)
    request.join()
    assert answers == [(200, {"answer": "left"})]
    assert not server.alive()
    wait_until(lambda: all(gone(pid) for pid in workers), deadline_s=10, what="the workers' end")
    assert not server.room.path.exists()
    server.stop(1)  # repeating is safe


def test_stopping_waits_no_longer_than_it_may(start: Start) -> None:
    server = start()

    def ask() -> None:
        with pytest.raises(OSError, match=r".*"):
            server.ask(request_of(0, mood="sleep 60"))

    request = threading.Thread(target=ask)
    request.start()
    wait_until(lambda: server.in_flight() == 1, deadline_s=10, what="a request in flight")
    server.stop(0.2)
    request.join(20)
    assert not request.is_alive()
    assert not server.alive()


def test_java_that_is_killed_takes_its_workers_along(start: Start) -> None:
    server = start()
    worker = only_worker(server)
    os.kill(server.child.pid, signal.SIGKILL)
    wait_until(lambda: gone(worker), deadline_s=20, what="the worker's end")
    assert not server.alive()
    assert not server.ready()
    assert "ended with -9" in str(server.failure)


def test_nothing_outlives_a_parent_that_is_killed(package_of: Callable[[str], Package], tmp_path: Path) -> None:
    packed = package_of("Moody")
    script = f"""
import time
from pathlib import Path
from modelyard.serving.torchserve import Server
from modelyard.spec.deployment import Runtime, TorchServe
from modelyard.units import Duration

server = Server.start(
    Path({packed.archive!r}), digest={packed.digest!r}, name="thirds", runtime=Runtime(), work=Path({str(tmp_path)!r})
)
server.wait_ready(120)
print(server.child.pid, *server._workers(), flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    java, worker = map(int, parent.stdout.readline().split())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: gone(java) and gone(worker), deadline_s=20, what="the end of Java and its worker")


def test_two_workers_are_both_waited_for(start: Start) -> None:
    server = start(wish=TorchServe(workers=2))
    assert len(server._workers()) == 2
    os.kill(min(server._workers()), signal.SIGKILL)
    wait_until(lambda: not server.ready(), deadline_s=10, what="a server that is not ready")
    wait_until(lambda: server.ask(request_of(0))[0] == 200, deadline_s=10, what="an answer of the other worker")
    wait_until(server.ready, deadline_s=60, what="a server that is ready again")
    assert server.restarts == 1


def test_another_archive_than_the_wished_one_is_never_started(
    package_of: Callable[[str], Package], tmp_path: Path
) -> None:
    packed = package_of("Moody")
    with pytest.raises(Tampered, match="has digest"):
        start_server(Path(packed.archive), digest="sha256:00", name="thirds", runtime=Runtime(), work=tmp_path)
    assert not (tmp_path / "server.log").exists()


def test_an_archive_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no archive .*gone\.mar"):
        start_server(tmp_path / "gone.mar", digest="sha256:00", name="thirds", runtime=Runtime(), work=tmp_path)


@pytest.mark.parametrize("name", ["a/b", "a:b", "", "../x", "a b"])
def test_a_name_that_cannot_stand_in_a_url_is_refused(tmp_path: Path, name: str) -> None:
    """`/` and `:` in names (mlflow PR #21458)."""
    with pytest.raises(BadInput, match="cannot stand in a URL"):
        start_server(tmp_path / "a.mar", digest="", name=name, runtime=Runtime(), work=tmp_path)


def test_a_busy_port_is_refused_by_number(package_of: Callable[[str], Package], tmp_path: Path) -> None:
    packed = package_of("Moody")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Busy, match=f"Port {port} of 127.0.0.1 is taken"):
            Server.start(
                Path(packed.archive),
                digest=packed.digest,
                name="thirds",
                runtime=Runtime(),
                work=tmp_path,
                port=port,
            )


def test_a_server_that_is_not_ready_in_time_says_so(start: Start) -> None:
    server = start(ready=False)
    with pytest.raises(Unavailable, match=r"a prediction of thirds did not come within 0.01 s"):
        server.wait_ready(0.01)
