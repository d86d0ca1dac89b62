"""The port for the kubelet, for Prometheus and for hints; and the command line."""

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.unit.modelyard_operator.test_webhooks import BODY, headers

from modelyard.processes import wait_until
from modelyard_operator.main import parser
from modelyard_operator.probes import BODY_LIMIT, Probes


class Scene:
    def __init__(self) -> None:
        self.ill, self.unready = "", ""
        self.hints: list[str] = []
        self.asked = 0
        self.metrics = lambda: b"modelyard_operator_leader 1.0\n"
        self.probes = Probes(
            ("127.0.0.1", 0),
            health=lambda: self.ill,
            readiness=lambda: self.unready,
            metrics=self._metrics,
            secret_of=lambda registry: "hook" if registry == "vision/main" else "",
            hint=self.hints.append,
        )
        self.threads = threading.active_count()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.probes.port}", timeout=10.0)

    def _metrics(self) -> bytes:
        self.asked += 1
        return self.metrics()

    def post(self, path: str, **sent: str) -> int:
        return self.client.post(path, content=BODY, headers=headers(at=str(int(time.time())), **sent)).status_code


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.client.close()
    made.probes.stop()


def test_a_dead_watch_makes_the_kubelet_restart_it(scene: Scene) -> None:
    """An operator lives on as a zombie after its watch ended (nolar/kopf #1276)."""
    assert scene.client.get("/healthz").status_code == 200
    scene.ill = "kopf's watch of modeldeployments has ended"
    answer = scene.client.get("/healthz")
    assert (answer.status_code, answer.text) == (503, "kopf's watch of modeldeployments has ended\n")
    assert scene.client.get("/readyz").status_code == 200


def test_it_is_not_ready_before_its_watches_are(scene: Scene) -> None:
    scene.unready = "the watches have not begun"
    assert scene.client.get("/readyz").status_code == 503


def test_metrics_are_served(scene: Scene) -> None:
    assert scene.client.get("/metrics").text == "modelyard_operator_leader 1.0\n"


def test_a_hint_that_mlflow_signed_polls_now(scene: Scene) -> None:
    assert scene.post("/webhooks/vision/main") == 202
    assert scene.hints == ["vision/main"]


def test_a_hint_from_anybody_else_does_nothing(scene: Scene) -> None:
    assert scene.post("/webhooks/vision/main", secret="other") == 401
    assert scene.post("/webhooks/vision/unknown") == 401
    assert scene.post("/webhooks/vision") == 404
    assert scene.post("/") == 404
    too_much = {"Content-Length": str(BODY_LIMIT + 1)}
    assert (
        scene.client.post("/webhooks/vision/main", headers=too_much, content=b"x" * (BODY_LIMIT + 1)).status_code == 404
    )
    assert scene.hints == []


def test_a_probe_that_gives_up_is_no_news(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    """The kubelet's time-out printed a traceback each time."""
    answered = threading.Event()

    def slow() -> bytes:
        answered.wait(10.0)
        return b"x" * 10_000_000

    scene.metrics = slow
    with socket.create_connection(("127.0.0.1", scene.probes.port)) as given_up:
        given_up.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends by a reset
        given_up.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        wait_until(lambda: scene.asked == 1, deadline_s=10.0, what="the request")
    answered.set()
    wait_until(lambda: threading.active_count() <= scene.threads, deadline_s=10.0, what="the request's end")
    assert "Traceback" not in capfd.readouterr().err


def test_the_command_line_stays_as_it_is() -> None:
    given = vars(parser().parse_args(["--serving-image", "serving:1"]))
    assert given == {
        "serving_image": "serving:1",
        "prometheus": "",
        "namespace": "",
        "lease_namespace": "modelyard",
        "host": "0.0.0.0",
        "port": 8080,
        "workers": 8,
        "kubeconfig": None,
    }


def test_the_operator_runs_where_there_is_no_torch_numpy_pandas_kfp_or_whole_mlflow() -> None:
    """What its image lacks: the import of the whole shell, with those packages made impossible to import."""
    script = """
import importlib.abc, json, sys
ABSENT = {"torch", "numpy", "pandas", "kfp", "matplotlib", "mlflow", "scipy", "sklearn", "pyarrow", "rich", "typer"}
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ImportError(f"{name} is not in the operator's image")
sys.meta_path.insert(0, Absent())
import modelyard_operator.main, modelyard_operator.wiring
print(json.dumps(sorted(ABSENT & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
