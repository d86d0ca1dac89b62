"""What a run asks for beside files: the laptop's services, or a registry that others share.

The laptop's are started together, in the background, while the first stages work.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psutil

from modelyard.errors import BadInput, Unavailable
from modelyard.registry.port import Registry
from modelyard.rollout.laptop import yard
from modelyard.rollout.laptop.listening import is_free
from modelyard.rollout.laptop.records import FileRecords
from modelyard.rollout.ports import Records
from modelyard.spec.project import ModelProject
from modelyard.training.job import Tracking

_PATIENCE_S = 60.0
"""MLflow takes seconds to start, more on a busy machine."""


class RemoteServices:
    """A registry that is there already. What it names is rolled out elsewhere: the run ends with the alias.

    Args:
        uri: MLflow's tracking server.
        project: whose versions go there.

    Raises:
        BadInput: it is no server's address.
    """

    def __init__(self, uri: str, project: ModelProject) -> None:
        if not uri.startswith(("http://", "https://")):
            raise BadInput(f"tracking URI {uri} is no server's address", do="write it like https://mlflow.example.com")
        self._uri, self._project = uri, project

    def registry(self) -> Registry:
        """At its address."""
        from modelyard.registry.mlflow import MLflowRegistry  # noqa: PLC0415 - its import takes seconds

        return MLflowRegistry(self._uri)

    def records(self) -> None:
        """None: wishes are the cluster's."""

    def tracking(self) -> Tracking:
        """Where curves go."""
        return Tracking(uri=self._uri, experiment=self._project.metadata.name)

    def alive(self) -> bool:
        """No rollout loop is waited for."""
        return False

    def give_up(self) -> None:
        """Nothing was started."""


def check_port(home: Path, project: ModelProject) -> None:
    """Refuse a port of the project's own that another program has: the loop would wait for it, and a run for the loop.

    Raises:
        BadInput: it is taken.
    """
    port = project.deployment.traffic.port
    if port is None or is_free(port):
        return
    if (ours := yard.running(home)) and port in _listening(ours.pid):
        return
    raise BadInput(
        f"deployment.traffic.port: {port} is taken by another program",
        do="free it, or leave the field out: every model answers on the router's own port",
    )


def _listening(pid: int) -> set[int]:
    """Ports on which a process or one of its children listens."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return {
            int(socket.laddr.port)
            for one in (process, *process.children(recursive=True))
            for socket in one.net_connections("inet")
            if socket.status == psutil.CONN_LISTEN
        }
    return set()


class _Patient:
    """A registry that is asked again while it is away and the yard, which starts it again, is there.

    Each of a registry's verbs may be repeated.
    """

    def __init__(self, registry: Registry, alive: Callable[[], bool]) -> None:
        self._registry = registry
        self._alive = alive

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        ask = getattr(self._registry, verb)

        def asked(*given: Any, **named: Any) -> Any:
            ends = time.monotonic() + _PATIENCE_S
            while True:
                try:
                    return ask(*given, **named)
                except Unavailable:
                    if time.monotonic() > ends or not self._alive():
                        raise
                    time.sleep(0.5)

        return asked


class LaptopServices:
    """MLflow, the router and the rollout loop of one project folder."""

    def __init__(self, home: Path, project: ModelProject, *, needed: bool, say: Callable[[str], None]) -> None:
        self._home = home
        self._project = project
        self._yard: Future[yard.Yard] | None = None
        self._given_up = threading.Event()
        if needed and not yard.running(home):
            say("starting MLflow, the router and the rollout loop in the background (modelyard down stops them)")
        if needed:
            starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="yard")
            self._yard = starter.submit(yard.up, home, given_up=self._given_up.is_set)
            starter.shutdown(wait=False)

    def give_up(self) -> None:
        """End a start that is still on its way, and all that it started; what is up stays up."""
        self._given_up.set()
        if self._yard is not None:
            wait([self._yard])

    def registry(self) -> Registry:
        """The registry, once MLflow is up."""
        from modelyard.registry.mlflow import MLflowRegistry  # noqa: PLC0415 - its import takes seconds

        return cast("Registry", _Patient(MLflowRegistry(self._addresses().mlflow), self.alive))

    def records(self) -> Records:
        """Wishes and attempts of this folder."""
        return FileRecords(self._home / "records")

    def tracking(self) -> Tracking | None:
        """Where curves go: nowhere when MLflow is neither up nor needed."""
        if self._yard is None and not yard.running(self._home):
            return None
        name = self._project.metadata.name
        return Tracking(uri=self._addresses().mlflow, experiment=name, run_id=None, run_name=None)

    def alive(self) -> bool:
        """Whether the rollout loop runs."""
        return yard.running(self._home) is not None

    def _addresses(self) -> yard.Yard:
        return self._yard.result(timeout=120) if self._yard else yard.up(self._home)
