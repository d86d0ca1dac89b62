"""TorchServe 0.12 as a child process. It is archived and was never meant to be trusted, so it is fenced in.

- Only a verified copy of the archive is in its model store, and workers verify again what was unpacked.
- It binds 127.0.0.1; its management API is a Unix socket in a folder of mode 0700 and can neither register nor remove
  models (CVE-2023-43654). gRPC cannot be turned off: it gets random ports of 127.0.0.1, where another user of this
  machine could at worst take the workers away, which `ready` sees.
- Metrics are off; no URL may be loaded from; nothing is installed by pip.
- It gets a small environment of its own: no credentials of ours, no settings of another TorchServe.
- `/ping` says Healthy while no worker lives (pytorch/serve #2099, #3191): ready means an answered prediction.
- Java itself is the child: the `torchserve` wrapper does not hand SIGTERM on, and writes one pid file for the machine.
"""

import http.client
import json
import math
import os
import re
import shutil
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import ts

from modelyard.errors import BadInput, Busy, StageFailed, Tampered
from modelyard.processes import Child, free_port, spawn, wait_until
from modelyard.serving.contents import Contents, Golden, golden_body, read_contents
from modelyard.serving.java import java
from modelyard.serving.room import Room
from modelyard.spec.deployment import Runtime
from modelyard.storage.atomic import digest_file, explained

MAX_REQUEST_BYTES = 16 * 1024 * 1024
"""A larger body is answered 413."""
KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
PROBE_TIMEOUT_S = 5.0
WARM_UP_REQUESTS = 200
WARM_UP_AT_ONCE = 8
"""As clients do: alone, each request would wait for a batch that does not fill."""
WARM_UP_S = 0.6

_LOGGING = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %-5p %c{1} %m%n"/></Console></Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/><Logger name="MODEL_METRICS" level="off"/>
    <Logger name="TS_METRICS" level="off"/><Logger name="io.netty" level="error"/>
    <Logger name="org.pytorch.serve.wlm" level="warn"/><Logger name="org.pytorch.serve.job" level="warn"/>
    <Root level="info"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"""


class Server:
    """One TorchServe with one model."""

    def __init__(self, *, name: str, port: int, child: Child, contents: Contents, runtime: Runtime, room: Room) -> None:
        self.name = name
        self.port = port
        self.url = f"http://127.0.0.1:{port}/predictions/{name}"
        self.contents = contents
        self.child = child
        self._runtime = runtime
        self.room = room
        """Its temporary folder."""
        self._answered_by: frozenset[int] = frozenset()

    @classmethod
    def start(
        cls,
        archive: Path,
        *,
        digest: str,
        name: str,
        runtime: Runtime,
        work: Path,
        port: int | None = None,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        node: str | None = None,
        gpus: int = 0,
    ) -> Self:
        """Start TorchServe with one archive; it becomes ready later (`ready`, `wait_ready`).

        Args:
            archive: the `.mar`.
            digest: its digest; other bytes are refused.
            name: the model's name, part of the URL.
            runtime: workers, batch size, time limits.
            work: a folder of its own: the archive's copy, configuration, `server.log`.
            port: where to listen; a free one when absent.
            max_request_bytes: larger bodies are answered 413.
            node: type of this node, which decides on the variant; found out when absent.
            gpus: that the container has: workers are spread over them, and the handler is told which is its own.

        Raises:
            Tampered: the archive is not the one with this digest, or does not hold together.
            BadInput: no Java 17, or a name that cannot stand in a URL.
            Busy: the port is taken.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise BadInput(f"The model's name {name!r} cannot stand in a URL", do="use letters, digits, '.', '_', '-'")
        program = java()
        port = _usable(port)
        with explained(work):
            shutil.rmtree(work / "store", ignore_errors=True)
            (work / "store").mkdir(parents=True)
            copy = work / "store" / f"{name}.mar"
            if not archive.is_file():
                raise BadInput(f"There is no archive {archive}", do="package the model, or fetch the version again")
            shutil.copyfile(archive, copy)
            if (found := digest_file(copy)) != digest:
                raise Tampered(f"{archive} has digest {found}, not {digest}", do="fetch the version again")
            contents = read_contents(copy, node=node)
            room = Room()
            (work / "log4j2.xml").write_text(_LOGGING)
            settings = properties(
                name, runtime, port=port, work=work, room=room.path, max_request_bytes=max_request_bytes, gpus=gpus
            )
            (work / "config.properties").write_text(settings)
        child = spawn(
            _command(program, work=work, room=room.path),
            env=_environment(contents, room.path),
            cwd=room.path,
            log=work / "server.log",
        )
        return cls(name=name, port=port, child=child, contents=contents, runtime=runtime, room=room)

    def alive(self) -> bool:
        """Whether Java runs. Its workers may be dead all the same: see `ready`."""
        return self.child.alive()

    def ready(self) -> bool:
        """Whether every worker lives, and since the last of them started a real prediction was answered.

        Asks for a prediction only after a (re)start, so that a full queue never makes a server unready
        and probes stay out of the way of traffic.
        """
        workers = self._workers() if self.alive() else frozenset()
        if len(workers) < self._runtime.torch_serve.workers:
            self._answered_by = frozenset()
        elif workers != self._answered_by and self._answers():
            self._answered_by = workers
        return bool(workers) and workers == self._answered_by

    def wait_ready(self, deadline_s: float = 120.0) -> None:
        """Wait until it is ready.

        Raises:
            StageFailed: a worker could not load the model; the message has its error.
            Unavailable: the server ended, or was not ready in time.
        """

        def ready_or_failed() -> bool:
            if self.failure:
                raise StageFailed(f"A worker could not load {self.name}: {self.failure}", do=f"read {self.child.log}")
            return self.ready()

        wait_until(ready_or_failed, deadline_s=deadline_s, what=f"a prediction of {self.name}", child=self.child)

    @property
    def failure(self) -> str | None:
        """Why it cannot become ready: the last worker's error while loading, or the end of Java."""
        if (code := self.child.exit_code) is not None:
            return f"TorchServe ended with {code}: {self.child.tail(3)}"
        events = self._events()
        return str(events[-1]["error"]) if events and events[-1]["event"] == "failed" else None

    @property
    def restarts(self) -> int:
        """How often a worker was started again after its death (once it has loaded the model)."""
        started: int = sum(event["event"] == "started" for event in self._events())
        return max(0, started - self._runtime.torch_serve.workers)

    def in_flight(self) -> int:
        """Batches that workers are at, plus requests in the queue."""
        return sum(self._busy(pid) for pid in self._workers()) + self.queued()

    def stop(self, grace: float = 10.0) -> None:
        """Wait until nothing is in flight, for `grace` seconds at most, then end Java and its workers; safe to repeat.

        TorchServe resets what is in flight when it is told to end (kserve #3360), so the router must have stopped
        sending before.
        """
        deadline = time.monotonic() + grace
        quiet = 0
        while self.alive() and quiet < 2 and time.monotonic() < deadline:
            quiet = 0 if self.in_flight() else quiet + 1
            time.sleep(0.02)
        self.child.stop(grace=0.5)  # Java would wait for two quiet seconds that have passed already
        self.room.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(grace=1.0)

    def ask(self, body: bytes, *, content_type: str = "application/json", timeout_s: float = 30.0) -> tuple[int, Any]:
        """Send one request, past any router: its status and its JSON answer (text, where it is none).

        Raises:
            OSError: the server cannot be reached or did not answer in time.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("POST", f"/predictions/{self.name}", body, {"Content-Type": content_type})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text

    def ask_golden(self, golden: Golden, *, timeout_s: float = 30.0) -> tuple[int, Any]:
        """Send one golden request; as `ask`."""
        return self.ask(golden_body(golden), content_type=golden.content_type, timeout_s=timeout_s)

    def warm_up(self, *, requests: int = WARM_UP_REQUESTS, deadline_s: float = WARM_UP_S) -> None:
        """Send golden requests, past any router, until Java has compiled its way and the worker has run hot.

        A new server answers its first hundreds of requests at two to three times its later time; a canary that gets
        five requests a second would be compared cold with a stable that is warm. What is answered does not matter
        here: evidence comes from clients. Ends by itself after `deadline_s` seconds.
        """
        ends = time.monotonic() + deadline_s
        golden = self.contents.golden.requests

        def ask(number: int) -> None:
            left = ends - time.monotonic()
            with suppress(OSError):
                if left > 0:
                    self.ask_golden(golden[number % len(golden)], timeout_s=left)

        with ThreadPoolExecutor(WARM_UP_AT_ONCE) as senders:
            list(senders.map(ask, range(requests)))

    def _answers(self) -> bool:
        try:
            return self.ask_golden(self.contents.golden.requests[0], timeout_s=PROBE_TIMEOUT_S)[0] == 200
        except OSError:
            return False

    def _events(self) -> list[dict[str, Any]]:
        """What workers told, oldest first; a line that is being written is left for the next look."""
        try:
            lines = (self.room.path / "workers" / "events.jsonl").read_text("utf-8").splitlines(keepends=True)
        except OSError:
            return []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _workers(self) -> frozenset[int]:
        """Workers that have loaded the model and live."""
        return frozenset(event["pid"] for event in self._events() if event["event"] == "started" and _lives(event))

    def _busy(self, pid: int) -> bool:
        try:
            return (self.room.path / "workers" / f"busy.{pid}").read_bytes() == b"\1"
        except OSError:
            return False

    def queued(self) -> int:
        """Requests that wait for a worker, as far as it can tell."""
        connection = _UnixConnection(self.room.path / "management")
        try:
            connection.request("GET", f"/models/{self.name}")
            status = json.loads(connection.getresponse().read())[0]
            return int(status["jobQueueStatus"]["pendingRequests"])
        except (OSError, http.client.HTTPException, ValueError, LookupError):
            return 0
        finally:
            connection.close()


def properties(
    name: str,
    runtime: Runtime,
    *,
    port: int,
    work: Path,
    room: Path,
    max_request_bytes: int = MAX_REQUEST_BYTES,
    gpus: int = 0,
) -> str:
    """TorchServe's `config.properties`. Names were checked against its classes: a wrong one is silently ignored."""
    wish = runtime.torch_serve
    model = {
        "defaultVersion": True,
        "marName": f"{name}.mar",
        "minWorkers": wish.workers,
        "maxWorkers": wish.workers,
        "batchSize": wish.batch_size,
        "maxBatchDelay": max(1, math.ceil(wish.max_batch_delay.seconds * 1000)),  # 0 would mean its default, 100
        "responseTimeout": math.ceil(wish.response_timeout.seconds),
    }
    settings = {
        "inference_address": f"http://127.0.0.1:{port}",
        "management_address": f"unix:{room / 'management'}",
        "metrics_address": f"unix:{room / 'metrics'}",
        "grpc_inference_address": "127.0.0.1",
        "grpc_inference_port": 0,
        "grpc_management_address": "127.0.0.1",
        "grpc_management_port": 0,
        "use_native_io": "true",
        "disable_token_authorization": "true",
        "enable_model_api": "false",
        "enable_metrics_api": "false",
        "disable_system_metrics": "true",
        "enable_envvars_config": "false",
        "allowed_urls": "file:///nothing/may/be/loaded/from/urls",
        "install_py_dep_per_model": "false",
        "decode_input_request": "false",
        "number_of_gpu": gpus,
        "number_of_netty_threads": 4,
        "netty_client_threads": 2,
        "max_request_size": max_request_bytes,
        "max_response_size": 64 * 1024 * 1024,
        "model_store": work / "store",
        "load_models": f"{name}.mar",
        "models": json.dumps({name: {"1.0": model}}),
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _command(program: Path, *, work: Path, room: Path) -> list[str | Path]:
    package = Path(ts.__file__).resolve().parent
    return [
        program,
        # small and soon there: it hands bytes from a socket to a worker
        *("-Xms32m", "-Xmx256m", "-XX:MaxDirectMemorySize=128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        *("-Xshare:auto", "-XX:-UsePerfData", "-Dsun.net.inetaddr.ttl=0"),
        f"-Dmodel_server_home={package.parent}",
        f"-Djava.io.tmpdir={room}",
        f"-Dlog4j.configurationFile=file://{(work / 'log4j2.xml').resolve()}",
        *("-cp", package / "frontend" / "model-server.jar", "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", (work / "config.properties").resolve(), "-ncs"),
    ]


def _environment(contents: Contents, room: Path) -> dict[str, str]:
    threads = str(contents.threads)
    return {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ} | {
        "TMPDIR": str(room),
        "LOG_LOCATION": str(room / "logs"),
        "METRICS_LOCATION": str(room / "logs"),
        "MODELYARD_MANIFEST": contents.manifest_digest,
        "MODELYARD_MODEL": contents.folder,
        "MODELYARD_WORKERS": str(room / "workers"),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONDONTWRITEBYTECODE": "1",  # the unpacked archive must stay as it was verified
        "TS_DECODE_INPUT_REQUEST": "false",
    }


def _usable(port: int | None) -> int:
    if port is None:
        return free_port()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise Busy(f"Port {port} of 127.0.0.1 is taken ({error.strerror})", do="free it or name another") from None
    return port


def _lives(event: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(event["pid"])
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= event["at"] + 1)
    except psutil.Error:
        return False


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
