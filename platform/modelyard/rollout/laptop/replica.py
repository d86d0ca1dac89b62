"""One server of an arm: started, watched, started again when it dies, for as long as it is wanted."""

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from modelyard.errors import BadInput, ModelyardError, Tampered
from modelyard.serving.runtime import ModelServer
from modelyard.verdict import Outcome, Reason, Verdict

_WATCH_S = 0.1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0

log = structlog.get_logger()


class Replica:
    """A thread that keeps one server running.

    Args:
        name: for the log.
        fetch: gives the verified archive; called before each start.
        launch: starts a server from it.
        changed: called whenever `port` changes.
    """

    def __init__(
        self,
        name: str,
        *,
        fetch: Callable[[], Path],
        launch: Callable[[Path], ModelServer],
        changed: Callable[[], None],
    ) -> None:
        self._name = name
        self._fetch, self._launch, self._changed = fetch, launch, changed
        self._end = threading.Event()
        self._showing = threading.Lock()
        self._server: ModelServer | None = None
        self._thread = threading.Thread(target=self._run, name=f"replica {name}", daemon=True)
        self.port: int | None = None
        """Where it answers; None while it is not ready."""
        self.failure: Verdict | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def withdraw(self) -> None:
        """Take it out of the router; it answers what it has."""
        self._end.set()
        self._show(None)

    def stop(self, grace: float) -> None:
        """End it, after what is in flight, within `grace` seconds and a little."""
        self.withdraw()
        self._thread.join()
        if self._server is not None:
            self._server.stop(grace)
            self._server = None

    def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._end.is_set():
            try:
                archive = self._fetch()
                log.info("a server starts", replica=self._name)
                self._server = self._launch(archive)
                if self._watch(self._server):
                    pause = _FIRST_PAUSE_S
            except (
                Exception
            ) as error:  # whatever it is, the next start may succeed, and a thread that ended says nothing
                self.failure = _judge(error)
                log.warning("a server did not start", replica=self._name, error=str(error))
            if self._end.is_set():
                return
            if self._server is not None:
                self._server.stop(0.0)
                self._server = None
            self._end.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _watch(self, server: ModelServer) -> bool:
        """Follow a server until it dies or is not wanted any more; whether it was ever ready."""
        was_ready = False
        while not self._end.is_set():
            alive = server.alive()
            ready = alive and server.ready()
            if ready and not was_ready:
                log.info("a server warms up", replica=self._name)
                server.warm_up()
            if ready:
                was_ready, self.failure = True, None
            elif not was_ready and server.failure:
                self.failure = _say(Outcome.FAILED if alive else Outcome.INCONCLUSIVE, server.failure)
            self._show(server.port if ready else None)
            if not alive:
                log.warning("a server died", replica=self._name, why=server.failure)
                return was_ready
            self._end.wait(_WATCH_S)
        return was_ready

    def _show(self, port: int | None) -> None:
        with self._showing:
            port = None if self._end.is_set() else port  # once withdrawn, it never comes back
            if port == self.port:
                return
            self.port = port
        log.info("a server is ready" if port else "a server is not ready", replica=self._name, port=port)
        self._changed()


def _judge(error: Exception) -> Verdict:
    """Whose fault it is: an archive that is not what its digest says is the version's, the rest the machine's."""
    if isinstance(error, Tampered):
        return Verdict(outcome=Outcome.FAILED, reason=Reason.DIGEST_MISMATCH, message=str(error))
    if isinstance(error, NoArchive):
        return Verdict(outcome=Outcome.FAILED, reason=Reason.ARTIFACT_MISSING, message=str(error))
    message = str(error) if isinstance(error, ModelyardError) else repr(error)
    return _say(Outcome.INCONCLUSIVE, message)


def _say(outcome: Outcome, why: str) -> Verdict:
    return Verdict(outcome=outcome, reason=Reason.CANARY_UNAVAILABLE, message=why)


class NoArchive(BadInput):
    """The version has no archive, or is gone."""
