"""The laptop's services from outside: start them in the background, find them, stop them."""

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from modelyard.errors import BadInput, Busy, Stopped, Unavailable
from modelyard.processes import spawn, wait_until
from modelyard.record import record
from modelyard.rollout.laptop.home import Home
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import write_text

_UP_S = 90.0
_DOWN_S = 30.0


@record
class Yard:
    """What runs: `yard.json`."""

    pid: int
    born: float
    """When that process began, in seconds since the epoch: a pid alone may belong to another by now."""
    mlflow: str
    router: str
    admin: str
    """Envoy's own pages, to read."""

    def alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            process = psutil.Process(self.pid)
            return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.born) < 1)
        except psutil.NoSuchProcess:
            return False


def running(home: Path) -> Yard | None:
    """What runs in this home; None when nothing does, or what did is gone without a word."""
    file = Home(home).yard
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    with contextlib.suppress(BadInput):  # of another version of ours: that process cannot be known
        yard = from_json(Yard, text, where=str(file))
        if yard.alive():
            return yard
    return None


def up(
    home: Path, *, progress: Callable[[str], None] | None = None, given_up: Callable[[], bool] = lambda: False
) -> Yard:
    """Start MLflow, the router and the rollout loop in the background, and wait until they answer.

    What runs already is left as it is.

    Args:
        home: `<project>/.modelyard/yard`; made when it is not there.
        progress: told in words what is waited for.
        given_up: asked while it waits; what was started is ended again when it says so.

    Raises:
        Unavailable: they did not come up; the message holds the end of the log.
        Stopped: it was given up.
        Busy: somebody else is starting them.
        BadInput: the folder cannot be written to.
    """
    place = Home(home.resolve())
    with _one_at_a_time(place):
        if (yard := running(place.path)) is not None:
            return yard
        place.yard.unlink(missing_ok=True)
        if progress is not None:
            progress("starting MLflow, the router and the rollout loop")
        argv = [sys.executable, "-m", "modelyard.rollout.laptop.serve", "--home", str(place.path)]
        child = spawn(argv, log=place.logs / "yard.log", detached=True)

        def found() -> Yard | None:
            if given_up():
                raise Stopped("the start of MLflow, the router and the rollout loop was given up", do="run again")
            return running(place.path)

        try:
            yard = wait_until(found, deadline_s=_UP_S, what="the yard", child=child)
            assert yard is not None
            return yard
        except BaseException:
            child.stop(_DOWN_S)
            raise


def down(home: Path) -> bool:
    """Stop what runs in this home; whether anything did.

    Raises:
        Unavailable: it does not end, not even when killed.
    """
    place = Home(home.resolve())
    yard = running(place.path)
    if yard is None:
        return False
    family = _family(yard.pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(yard.pid, signal.SIGTERM)
    try:
        wait_until(lambda: not yard.alive(), deadline_s=_DOWN_S, what="the yard's end")
    except Unavailable:
        with contextlib.suppress(ProcessLookupError):
            os.kill(yard.pid, signal.SIGKILL)  # its guard ends its children
        wait_until(lambda: not yard.alive(), deadline_s=5, what="the yard's end")
    wait_until(lambda: not any(map(_lives, family)), deadline_s=10, what="the end of the yard's processes")
    if running(place.path) is None:
        place.yard.unlink(missing_ok=True)
    return True


def announce(home: Home, *, mlflow: str, router: str, admin: str) -> Yard:
    """Write `yard.json` for this process: all is up."""
    born = psutil.Process().create_time()
    yard = Yard(pid=os.getpid(), born=born, mlflow=mlflow, router=router, admin=admin)
    write_text(home.yard, to_json(yard))
    return yard


def _family(pid: int) -> list[psutil.Process]:
    """All that a process started, directly or not."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _one_at_a_time(home: Home) -> Iterator[None]:
    """Two who start at once: the second waits and finds it running."""
    with contextlib.ExitStack() as stack:
        try:
            home.path.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((home.path / "up.lock").open("w"))
        except OSError as error:
            raise BadInput(f"{home.path} cannot be used ({error.strerror})", do="make it writable") from None
        deadline = time.monotonic() + _UP_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy(f"somebody has been starting {home.path} for {_UP_S:g} s", do="try again") from None
                time.sleep(0.1)
        yield
