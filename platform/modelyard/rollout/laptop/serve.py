"""The background process of a laptop: MLflow, Envoy, servers, and the loop that looks at each deployment.

`python -m modelyard.rollout.laptop.serve --home FOLDER` runs until SIGTERM or Ctrl-C. Everything that it
started ends with it, however it ends. What it knows is on disk, so that the next one goes on from there.
"""

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

import structlog

from modelyard.errors import Busy, Conflict, ModelyardError
from modelyard.processes import Child
from modelyard.registry.mlflow import MLflowRegistry
from modelyard.registry.port import Registry
from modelyard.registry.server import start_mlflow
from modelyard.rollout.laptop.arms import LaptopArms
from modelyard.rollout.laptop.counters import EnvoyCounters
from modelyard.rollout.laptop.home import Home
from modelyard.rollout.laptop.listening import LOOPBACK, kept_port
from modelyard.rollout.laptop.records import FileRecords
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.rollout.laptop.yard import announce
from modelyard.rollout.loop import look
from modelyard.rollout.ports import World

POLL_S = 0.5
"""How often each alias is read, so that a move in MLflow's pages does what `promote` does."""
_AT_ONCE = 10
_LONGEST_PAUSE_S = 10.0
_WATCH_S = 0.2

log = structlog.get_logger()


class Loop:
    """Looks at every deployment again and again, each on its own: one that is slow or failing holds up no other."""

    def __init__(self, world: World, *, poll_s: float = POLL_S, look: Callable[..., float | None] = look) -> None:
        self._world = world
        self._poll_s = poll_s
        self._look = look
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="look")
        self._due: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        self._running: dict[str, Future[None]] = {}

    def turn(self, now: float) -> float:
        """Start the looks that are due; gives the seconds until the next one is."""
        keys = self._world.records.keys()
        for key in keys:
            future = self._running.get(key)
            if (future is None or future.done()) and self._due.get(key, 0.0) <= now:
                self._due[key] = now + self._poll_s
                self._running[key] = self._pool.submit(self._look_at, key)
        waiting = [due for key, due in self._due.items() if self._running[key].done()]
        return max(0.01, min([self._poll_s, *(due - now for due in waiting)]))

    def stop(self) -> None:
        """Wait for looks that are under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _look_at(self, key: str) -> None:
        """One look, or some where the loop wants the next at once. Nothing that it raises ends the yard."""
        try:
            again = None
            for _ in range(_AT_ONCE):
                now = time.time()
                again = self._look(self._world, key, now=now)
                if again is None or again > now:
                    break
            self._failed.pop(key, None)
            if again is not None:
                self._due[key] = min(self._due[key], again)
        except Conflict as error:
            log.info("changed meanwhile: looking again", key=key, error=str(error))
            self._due[key] = 0.0
        except Exception as error:
            known = isinstance(error, ModelyardError)
            failed = self._failed[key] = self._failed.get(key, 0) + 1
            pause = min(self._poll_s * 2 ** min(failed, 10), _LONGEST_PAUSE_S)
            log.warning("a look failed", key=key, error=str(error), again_in_s=pause, exc_info=not known)
            self._due[key] = time.time() + pause


class Services:
    """MLflow, Envoy and the servers of one home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._mlflow_port = kept_port(home.path / "mlflow.port")
        self._mlflow: Child | None = None
        self.router = EnvoyRouter(home.router, log=home.logs / "envoy.log")
        self.registry: Registry = MLflowRegistry(self.mlflow_url)
        self.arms = LaptopArms(home, self.registry, self.router)

    @property
    def mlflow_url(self) -> str:
        """MLflow's pages and API."""
        return f"http://{LOOPBACK}:{self._mlflow_port}"

    def start(self) -> None:
        """Start MLflow and Envoy at the same time; then what ran before."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            for future in [pool.submit(self._start_mlflow), pool.submit(self.router.start)]:
                future.result()
        self.arms.resume()

    def mend(self) -> None:
        """Start again what died."""
        if self._mlflow is not None and not self._mlflow.alive():
            log.warning("MLflow died: starting it again", code=self._mlflow.exit_code)
            self._mlflow.stop(0.0)
            self._start_mlflow()
        self.router.start()

    def stop(self) -> None:
        """End everything at the same time, within seconds."""
        stops: list[Callable[[], object]] = [self.arms.stop, self.router.stop]
        if self._mlflow is not None:
            stops.append(self._mlflow.stop)
        with ThreadPoolExecutor(max_workers=len(stops)) as pool:
            for future in [pool.submit(stop) for stop in stops]:
                try:
                    future.result()
                except Exception as error:
                    log.warning("something did not stop cleanly", error=repr(error))

    def _start_mlflow(self) -> None:
        self._mlflow = start_mlflow(self.home.path, port=self._mlflow_port)


def serve(home: Home, end: threading.Event) -> None:
    """Run everything until `end` is set.

    Raises:
        Busy: another process serves this home.
        Unavailable: something did not come up.
    """
    with _held(home):
        services = Services(home)
        world = World(
            records=FileRecords(home.records),
            registry=services.registry,
            arms=services.arms,
            router=services.router,
            counters=EnvoyCounters(services.router),
        )
        loop = Loop(world)
        try:
            services.start()
            yard = announce(home, mlflow=services.mlflow_url, router=services.router.url, admin=services.router.admin)
            log.info("up", mlflow=yard.mlflow, router=yard.router)
            mending: Future[None] | None = None
            with ThreadPoolExecutor(max_workers=1) as mender:
                while not end.wait(min(loop.turn(time.time()), _WATCH_S)):
                    if mending is None or mending.done():
                        if mending is not None and (error := mending.exception()) is not None:
                            log.warning("could not mend", error=str(error))
                        mending = mender.submit(services.mend)
        finally:
            home.yard.unlink(missing_ok=True)
            loop.stop()
            services.stop()
            log.info("down")


def _held(home: Home) -> IO[str]:
    """The lock of a home, held by one process at a time."""
    home.path.mkdir(parents=True, exist_ok=True)
    file = home.lock.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise Busy(f"{home.path} is served by process {holder} already", do="stop it with `modelyard down`") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args().home.resolve())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: end.set())
    try:
        serve(home, end)
    except ModelyardError as error:
        log.error("cannot serve", error=str(error))
        print(error, file=sys.stderr)  # noqa: T201  the end of the log is what `up` shows
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
