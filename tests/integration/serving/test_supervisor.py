"""Process 1 of a pod, as Kubernetes starts and ends it."""

import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from tests.fakes.small_model import request_of

from modelyard.packaging.package import Package
from modelyard.processes import Child, spawn, wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow]


@dataclass
class Pod:
    child: Child
    url: str
    probes: str

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.probes + path, timeout=10)

    def ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.get("/readyz").status_code == 200
        return False

    def ask(self, body: bytes) -> httpx.Response:
        headers = {"content-type": "application/json"}
        return httpx.post(f"{self.url}/predictions/thirds", content=body, headers=headers, timeout=30)

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.child.pid).children(recursive=True)

    def java(self) -> psutil.Process:
        return next(process for process in self.below() if "java" in process.name())

    def worker(self) -> psutil.Process:
        return next(process for process in self.below() if "model_service_worker" in " ".join(process.cmdline()))


@pytest.fixture
def start(package_of: Callable[[str], Package], tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    pods: list[Pod] = []

    def begin(cls: str = "Moody", *, linger: float = 0.3, digest: str = "") -> Pod:
        packed = package_of(cls)
        work = tmp_path / f"pod{len(pods)}"
        work.mkdir()
        wanted = {"name": packed.name, "digest": digest or packed.digest, "arm": "a1", "version": "7"}
        (work / "server.json").write_text(json.dumps(wanted))
        child = spawn(
            [
                sys.executable, "-m", "modelyard.serving.supervisor", f"--config={work / 'server.json'}",
                f"--archive={packed.archive}", f"--work={work}", "--host=127.0.0.1", "--port=0", "--probe-port=0",
                f"--linger={linger}", "--grace=10",
            ],
            log=work / "pod.log",
        )  # fmt: skip
        pod = Pod(child, "", "")
        pods.append(pod)
        return pod

    yield begin
    for pod in pods:
        pod.child.stop(0)


def listening(pod: Pod) -> Pod:
    def ports() -> re.Match[str] | None:
        return re.search(r"predictions at port (\d+), probes at port (\d+)", pod.child.tail(500))

    found = wait_until(ports, deadline_s=30, what="the ports", child=pod.child)
    pod.url, pod.probes = (f"http://127.0.0.1:{number}" for number in found.groups())
    return pod


def test_a_pod_s_life(start: Callable[..., Pod]) -> None:
    """Ready with a real prediction, counted, ready again after a worker's death, drained on SIGTERM (kserve #3360)."""
    pod = listening(start())
    assert pod.get("/readyz").status_code == 503
    wait_until(pod.ready, deadline_s=120, what="readiness", child=pod.child)
    assert pod.get("/healthz").status_code == 200
    # probes and the warm-up before readiness are counted nowhere
    assert pod.metric("modelyard_answer_duration_seconds_count") == 0
    answer = pod.ask(request_of(0))
    assert (answer.status_code, answer.json()) == (200, {"answer": "left"})
    assert answer.headers["x-modelyard-arm"] == "a1"
    assert pod.ask(b"{}").status_code == 400
    assert httpx.get(f"{pod.url}/models").status_code == 404
    assert pod.metric('modelyard_attempts_total{code="200"}') == 1
    assert pod.metric("modelyard_attempt_errors_total") == 1
    assert pod.metric("modelyard_answer_duration_seconds_count") == 2

    first = pod.worker()
    first.kill()
    wait_until(lambda: not pod.ready(), deadline_s=10, what="a pod that is not ready")
    wait_until(pod.ready, deadline_s=60, what="a pod that is ready again", child=pod.child)
    assert pod.worker().pid != first.pid
    assert pod.metric("modelyard_worker_restarts") == 1

    answers: list[httpx.Response] = []
    request = threading.Thread(target=lambda: answers.append(pod.ask(request_of(0, mood="sleep 1.5"))))
    request.start()
    wait_until(lambda: pod.metric("modelyard_in_flight") == 1, deadline_s=10, what="a request in flight")
    java = pod.java()
    os.kill(pod.child.pid, signal.SIGTERM)
    wait_until(lambda: not pod.ready(), deadline_s=5, what="a pod that drains")
    request.join(20)
    assert [each.status_code for each in answers] == [200]
    assert pod.child.wait(20) == 0
    assert not java.is_running()


def test_a_killed_java_ends_the_pod_with_the_reason(start: Callable[..., Pod]) -> None:
    pod = listening(start())
    wait_until(pod.ready, deadline_s=120, what="readiness", child=pod.child)
    pod.java().kill()
    assert pod.child.wait(20) == 70
    assert "TorchServe ended with -9" in pod.child.tail(5)


def test_a_model_that_cannot_be_loaded_ends_the_pod_with_its_own_words(start: Callable[..., Pod]) -> None:
    """The server was healthy after a failed start (pytorch/serve #2099), or ran without a model (kserve #1914)."""
    pod = start("BreaksWhenMade")
    assert pod.child.wait(120) == 70
    # TorchServe's own log goes on meanwhile
    (told,) = [line for line in pod.child.tail(200).splitlines() if "laboratory" in line and "MODEL_LOG" not in line]
    assert "could not be made: RuntimeError: works in the laboratory only" in told


def test_another_archive_than_the_wished_one_is_never_started(start: Callable[..., Pod]) -> None:
    pod = start(digest="sha256:00")
    assert pod.child.wait(60) == 65
    assert "has digest" in pod.child.tail(5)
    assert "predictions at port" not in pod.child.tail(50)
