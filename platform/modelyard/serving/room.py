"""A temporary folder that is private, has a short path, and never outlives its process for long.

A Unix socket's path has 107 bytes at most, and TorchServe names its sockets alike for all servers that share
a temporary folder. What a killed process left behind is known by its lock, which the kernel let go of.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "modelyard-room-"
_CONTENTS = "workers"
"""What every room holds. A folder that somebody named like a room, and that holds something else, is no room."""


class Room:
    """A folder of mode 0700; `remove` it, or the next room that anybody makes sweeps it away."""

    def __init__(self) -> None:
        _sweep()
        # it gets the name that a sweep looks for only once it is locked
        unnamed = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
        self._held = os.open(unnamed, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = unnamed.rename(unnamed.with_name(unnamed.name.removeprefix(".")))
        (self.path / _CONTENTS).mkdir()

    def remove(self) -> None:
        """Remove it with all that is in it; safe to repeat."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def _sweep() -> None:
    for room in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            held = os.open(room, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(held)
                private = status.st_uid == os.getuid() and status.st_mode & 0o777 == 0o700
                if private and (room / _CONTENTS).is_dir():
                    shutil.rmtree(room, ignore_errors=True)
            finally:
                os.close(held)
