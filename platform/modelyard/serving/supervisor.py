"""Process 1 of a pod: TorchServe as its child, one model, ready only once a real prediction was answered.

`python -m modelyard.serving.supervisor --config /etc/modelyard/server.json --archive /models/model.mar --work /work`

- `/readyz`: a real prediction was answered at start and after each restart of a worker; a full queue changes nothing.
- `/healthz`: TorchServe's own process lives and the watch over it goes on.
- `/metrics`: attempts, errors and times of answers (buckets at most 1.05 apart), as Prometheus reads them.

SIGTERM: not ready at once; predictions are still answered for `--linger` seconds, until every router has heard that the
pod leaves; then what is in flight is waited for, `--grace` seconds at most; then Java and its workers end. TorchServe
alone resets what is in flight, and its wrapper does not hand SIGTERM on. SIGQUIT goes to Java, which logs its threads.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from modelyard.errors import BadInput, ModelyardError, Tampered
from modelyard.record import record
from modelyard.serving.fetch import DATA, NO_INPUT, say_why
from modelyard.serving.gate import Answer, Door, Gate, Gone, Request, plain
from modelyard.serving.tally import Tally
from modelyard.serving.torchserve import MAX_REQUEST_BYTES, Server
from modelyard.spec.codec import from_json
from modelyard.spec.deployment import Runtime
from modelyard.verdict import Reason

SOFTWARE: Final = 70
"""Exit code: the server ended, or cannot become ready."""
WATCH_S = 0.1
HUNG_S = 20.0
"""A look at the server that takes longer than this is no sign of health."""
UNREADY_S = 120.0
"""After this a server that was ready once is given up; kubelet starts the container anew (pytorch/serve #2357)."""
RATE_S = 5.0
"""Over which the rate of answers is taken for the queue's latency."""
LOG_BYTES = 4 << 20


@record
class Wanted:
    """What is served: `server.json`, frozen with the arm."""

    name: str
    digest: str
    arm: str
    version: str
    runtime: Runtime = Runtime()
    gpus: int = 0
    """That the container asked for."""


class Supervisor:
    """One server, watched, behind a gate."""

    def __init__(self, server: Server, wanted: Wanted) -> None:
        self.server = server
        self.tally = Tally()
        variant = server.contents.variant
        self.tally.info = {"modelyard_variant_info": {"variant": variant, "version": wanted.version}}
        told = {"x-modelyard-arm": wanted.arm, "x-modelyard-version": wanted.version}
        self.gate = Gate(port=server.port, model=wanted.name, tally=self.tally, told=told, most=MAX_REQUEST_BYTES)
        self.probes = Door(self._probed, most=1024)
        self.ready = False
        self.draining = False
        self._was_ready = False
        self._looked_at = time.monotonic()
        self._unready_since = time.monotonic()
        self._ended: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    async def run(self, *, host: str | None, port: int, probe_port: int, linger: float, grace: float) -> int:
        """Serve until SIGTERM, or until the server ends; gives the exit code."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGQUIT, self.server.child.signal, signal.SIGQUIT)
        ports = await self.probes.listen(host, probe_port), await self.gate.door.listen(host, port)
        print(f"predictions at port {ports[1]}, probes at port {ports[0]}", flush=True)  # noqa: T201
        watch = asyncio.create_task(self._watch())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({watch, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            stopped.cancel()
            await self._close(0.0)
            return watch.result()
        self.draining, self.ready = True, False
        await asyncio.wait({watch}, timeout=linger)  # a server that ends meanwhile ends the wait
        await self.gate.door.close(grace=grace)
        watch.cancel()
        await asyncio.to_thread(self.server.stop, 1.0)
        await self.probes.close(grace=0.1)
        return 0

    async def _close(self, grace: float) -> None:
        await self.gate.door.close(grace=grace)
        await self.probes.close(grace=0.1)
        await asyncio.to_thread(self.server.stop, 0.0)

    async def _watch(self) -> int:
        """Look at the server again and again; ends with an exit code when it is lost."""
        while True:
            lost = await asyncio.to_thread(self._look)
            if lost is not None:
                say_why(Reason.CANARY_UNAVAILABLE, lost)
                return SOFTWARE
            await asyncio.sleep(WATCH_S)

    def _look(self) -> str | None:
        """See whether it is ready; gives what is wrong where it is lost."""
        _reap(self.server.child.pid)
        if not self.server.alive():
            return self.server.failure or "the server ended"
        ready = self.server.ready()
        if ready and not self._was_ready:
            self.server.warm_up()
            self._was_ready = True
        if not ready and not self._was_ready and (why := self.server.failure):
            return why
        now = time.monotonic()
        if ready:
            self._unready_since = now
        elif self._was_ready and now - self._unready_since > UNREADY_S:
            return f"no worker came back within {UNREADY_S:g} s: {self.server.failure or 'it is not known why'}"
        self.gate.open = self._was_ready  # while one worker of two is gone, the other still answers
        self.ready = ready and not self.draining
        self._ended.append((now, self.tally.attempts))
        while now - self._ended[0][0] > RATE_S:
            self._ended.popleft()
        self._looked_at = now
        return None

    async def _probed(self, request: Request, _gone: Gone) -> Answer:
        match request.path:
            case "/readyz" if self.ready:
                return plain(200, "a real prediction was answered\n")
            case "/readyz":
                return plain(503, "draining\n" if self.draining else "no prediction was answered yet\n")
            case "/healthz":
                late = time.monotonic() - self._looked_at
                return plain(200, "alive\n") if late < HUNG_S else plain(500, f"no look for {late:.0f} s\n")
            case "/metrics":
                kind = "text/plain; version=0.0.4; charset=utf-8"
                gauges = await asyncio.to_thread(self._gauges)
                return plain(200, self.tally.text(gauges), kind=kind)
            case _:
                return plain(404, "there are /readyz, /healthz and /metrics\n")

    def _gauges(self) -> dict[str, float]:
        return {
            "modelyard_ready": float(self.ready),
            "modelyard_worker_restarts": float(self.server.restarts),
            "modelyard_queue_latency_seconds": self._queue_latency(),
        }

    def _queue_latency(self) -> float:
        """How long a request that comes now would wait: those before it, over the rate of answers (Little's law)."""
        waiting = self.server.queued()
        (first, before), (last, now) = self._ended[0], self._ended[-1]
        elapsed = max(last - first, WATCH_S)
        return 0.0 if not waiting else min(waiting / max((now - before) / elapsed, 1 / RATE_S), 60.0)


def _reap(child: int) -> None:
    """Process 1 inherits orphans; those that ended are let go of."""
    if os.getpid() != 1:
        return
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != child:
            os.waitpid(ended.si_pid, os.WNOHANG)


def _show(log: Path, end: threading.Event) -> None:
    """Copy the server's log to ours, and keep its file small: the pod's disk is small, and kubelet keeps ours."""
    place = 0
    while True:
        last = end.wait(0.2)
        with contextlib.suppress(OSError), log.open("r+b") as file:
            file.seek(place)
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()
            place = file.tell()
            if place > LOG_BYTES:
                file.truncate(0)
                place = 0
        if last:
            return


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="modelyard.serving.supervisor", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--host", default=None, help="where to listen; everywhere when absent")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--probe-port", type=int, default=8081)
    parser.add_argument("--linger", type=float, default=5.0, help="seconds to go on answering after SIGTERM")
    parser.add_argument("--grace", type=float, default=15.0, help="seconds to wait for what is in flight after that")
    given = parser.parse_args(argv)
    try:
        wanted = from_json(Wanted, given.config.read_bytes(), where=str(given.config))
        server = Server.start(
            given.archive,
            digest=wanted.digest,
            name=wanted.name,
            runtime=wanted.runtime,
            work=given.work,
            gpus=wanted.gpus,
        )
    except OSError as error:
        say_why(Reason.CANARY_UNAVAILABLE, str(error))
        return NO_INPUT
    except ModelyardError as error:
        tampered = isinstance(error, Tampered)
        say_why(Reason.DIGEST_MISMATCH if tampered else Reason.CANARY_UNAVAILABLE, str(error))
        return DATA if tampered else NO_INPUT if isinstance(error, BadInput) else SOFTWARE
    end = threading.Event()
    shown = threading.Thread(target=_show, args=(server.child.log, end), daemon=True)
    shown.start()
    try:
        supervisor = Supervisor(server, wanted)
        return asyncio.run(
            supervisor.run(
                host=given.host, port=given.port, probe_port=given.probe_port, linger=given.linger, grace=given.grace
            )
        )
    finally:
        server.stop(0.0)
        end.set()
        shown.join(2)


if __name__ == "__main__":
    sys.exit(main())
