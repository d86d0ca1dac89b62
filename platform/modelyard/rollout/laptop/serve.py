"""The background process of a laptop: MLflow, Envoy, servers, and the loop that looks at each deployment.

`python -m modelyard.rollout.laptop.serve --home FOLDER` runs until SIGTERM or Ctrl-C. Everything that it
started ends with it, however it ends. What it knows is on disk, so that the next one goes on from there.
"""

import argparse
import contextlib
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

from modelyard.errors import Busy, ModelyardError, Unavailable
from modelyard.processes import Child, shorten
from modelyard.registry.history import History
from modelyard.registry.server import start_mlflow
from modelyard.rollout.laptop.arms import LaptopArms
from modelyard.rollout.laptop.chronicle import Chronicle
from modelyard.rollout.laptop.counters import EnvoyCounters
from modelyard.rollout.laptop.home import Home
from modelyard.rollout.laptop.listening import LOOPBACK, kept_port
from modelyard.rollout.laptop.looking import Loop
from modelyard.rollout.laptop.records import FileRecords
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.rollout.laptop.yard import announce
from modelyard.rollout.ports import World
from modelyard.rollout.prometheus import Asking
from modelyard.spec.deployment import DeploymentSpec

_WATCH_S = 0.2
_SHORTEN_S = 10.0

log = structlog.get_logger()


class Services:
    """MLflow, Envoy and the servers of one home, started.

    Raises:
        ModelyardError: something did not come up; what did is stopped again.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._port = kept_port(home.path / "mlflow.port")
        self._mlflow: Child | None = None
        self._trouble: ModelyardError | None = None
        self._shorten_at = 0.0
        self._arms: LaptopArms | None = None
        self.mlflow = f"http://{LOOPBACK}:{self._port}"
        self.router = EnvoyRouter(home.router, log=home.logs / "envoy.log")
        try:
            starts = [_in_background(self._start_mlflow), _in_background(self.router.start)]
            # Its import takes seconds, in which both come up.
            from modelyard.registry.mlflow import MLflowRegistry  # noqa: PLC0415

            registry = MLflowRegistry(self.mlflow)
            self.arms = self._arms = LaptopArms(home, registry, self.router)
            starts[1].result()
            self.arms.resume()  # archives are here already: servers need not wait for MLflow
            starts[0].result()
        except BaseException:
            self.stop()
            raise
        self.world = World(
            records=FileRecords(home.records),
            registry=registry,
            arms=self.arms,
            router=self.router,
            counters=EnvoyCounters(self.router),
            queries=Asking(lambda analysis: analysis.prometheus or "", hint="set analysis.prometheus"),
        )

    def follow(self, key: str, wish: DeploymentSpec) -> None:
        """At the end of each look: the traffic settings that are wished now, and what keeps them from acting.

        Raises:
            ModelyardError: they cannot be had, or something that died does not come up again.
        """
        self.router.follow(key, wish.traffic)
        if (trouble := self._trouble) is not None:
            raise trouble

    def mend(self) -> None:
        """Start again what died, and let go what nobody wishes any more.

        Raises:
            ModelyardError: it did not come up.
        """
        try:
            self._mend()
        except ModelyardError as error:
            self._trouble = error
            raise
        self._trouble = None

    def _mend(self) -> None:
        if self._mlflow is not None and not self._mlflow.alive():
            log.warning("MLflow died: starting it again", code=self._mlflow.exit_code)
            self._mlflow.stop(0.0)
            self._start_mlflow()
        self.router.start()
        self.arms.forget(keep=self.world.records.keys())
        if time.monotonic() > self._shorten_at:
            self._shorten_at = time.monotonic() + _SHORTEN_S
            for log_file in self._home.every_log():
                shorten(log_file)

    @property
    def addresses(self) -> dict[str, str] | None:
        """Where everything answers; None while the router is away."""
        with contextlib.suppress(Unavailable):
            return {"mlflow": self.mlflow, "router": self.router.url, "admin": self.router.admin}
        return None

    def stop(self) -> None:
        """End everything at the same time, within seconds."""
        stops: list[Callable[[], object]] = [self.router.stop]
        if self._arms is not None:
            stops.append(self._arms.stop)
        if self._mlflow is not None:
            stops.append(self._mlflow.stop)
        with ThreadPoolExecutor(max_workers=len(stops)) as pool:
            for future in [pool.submit(stop) for stop in stops]:
                try:
                    future.result()
                except Exception as error:
                    log.warning("something did not stop cleanly", error=repr(error))

    def _start_mlflow(self) -> None:
        self._mlflow = start_mlflow(self._home.path, port=self._port)


def serve(home: Home, end: threading.Event, up: threading.Event) -> None:
    """Run everything until `end` is set; `up` is set once all is there.

    Raises:
        Busy: another process serves this home.
        Unavailable: something did not come up.
    """
    with _held(home):
        services = Services(home)
        up.set()
        loop = Loop(services.world, look=Chronicle(History(home.history), then=services.follow).look)
        services.router.changed = loop.wake
        services.arms.changed = loop.wake
        threading.Thread(target=_mend, args=(services, end), daemon=True).start()
        told: dict[str, str] = {}
        try:
            while not end.is_set() and home.lock.exists():  # a home that was removed needs no yard
                if (now := services.addresses) and now != told:  # a router that came back may have others
                    announce(home, **now)
                    log.info("up", **now)
                    told = now
                loop.rest(min(loop.turn(time.time()), _WATCH_S))
        finally:
            end.set()
            home.yard.unlink(missing_ok=True)
            services.stop()  # first: a look that waits for MLflow ends with it
            loop.stop()
            log.info("down")


def _in_background(act: Callable[[], None]) -> Future[None]:
    """Do it in a thread that holds up nobody's end."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            act()
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _mend(services: Services, end: threading.Event) -> None:
    """Start again what dies. A daemon: what it is starting when the yard ends, the guard ends."""
    while not end.wait(_WATCH_S):
        try:
            services.mend()
        except ModelyardError as error:
            log.warning("could not mend", error=str(error))
            end.wait(_WATCH_S * 5)


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


def _log_as_json() -> None:
    """One JSON object a line to stdout, which is the log's file; other libraries' lines too."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stdout)
    last = structlog.processors.JSONRenderer()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=last))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args().home.resolve())
    _log_as_json()
    end, up = threading.Event(), threading.Event()

    def stop(number: int, _frame: object) -> None:
        if not up.is_set():  # nothing is served yet; the guard ends what was started
            os._exit(128 + number)
        end.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        serve(home, end, up)
    except ModelyardError as error:
        log.error("cannot serve", error=str(error))
        print(error, file=sys.stderr)  # noqa: T201  the end of the log is what `up` shows
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
