"""One run at a time on a project. The lock goes with its process, however that ends."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from modelyard.errors import Busy, Unavailable
from modelyard.processes import wait_until
from modelyard.storage.atomic import explained

_GLANCE_S = 0.1
"""How long `is_held` may be in the way."""


@contextmanager
def exclusive(path: Path, *, what: str) -> Iterator[None]:
    """Hold `path` as a lock file while inside.

    Raises:
        Busy: another process holds it; the message names the holder.
        BadInput: the folder cannot be written, or something else is in its place.
        StageFailed: no space left.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+")
    with handle:
        try:
            wait_until(lambda: _taken(handle), deadline_s=_GLANCE_S, what="the lock")
        except Unavailable:
            raise Busy(f"{path.parent} is in use: {_holder(path)}", do="wait until it is done, or stop it") from None
        handle.truncate(0)
        started = time.strftime("%H:%M:%S")
        handle.write(json.dumps({"pid": os.getpid(), "what": what, "since": started}))
        handle.flush()
        yield


def _taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a living process holds `path` as its lock."""
    try:
        with path.open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"{holder['what']} (process {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
