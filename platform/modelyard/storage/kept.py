"""Files of a bucket kept on this machine: at most so many bytes, and what was used least recently goes first.

A file is called by its digest, so that the ranks of a node, and later runs, share what one of them has fetched. Safe
for any number of processes: each holds a file's lock while it opens it, and what maps a file goes on reading it when
another removes it.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from modelyard.errors import BadInput
from modelyard.storage.atomic import explained
from modelyard.units import Quantity

VARIABLE = "MODELYARD_SHARD_CACHE"
DEFAULT = "8Gi"
NAME = 64
"""Characters of a SHA-256: whatever else lies in the folder is none of ours."""

Opened = Callable[[], AbstractContextManager[Path]]


class Kept:
    """The files in `folder`, at most `limit` bytes, and at most half of what its disk has for them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    @contextmanager
    def opened(self, digest: str, fetch: Opened) -> Iterator[Path]:
        """The file of that digest, to be mapped while the block runs; fetched where it is not there.

        Args:
            digest: `sha256:…`, as somebody wrote it down. The bytes are not compared with it here.
            fetch: the file, wherever it comes from; on the same disk it is linked, and else copied.

        Raises:
            BadInput: the folder cannot be written to, or is another user's.
            StageFailed: no space left.
        """
        path = self.folder / digest.removeprefix("sha256:")
        with explained(path):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.folder.stat().st_uid != os.getuid():  # who could change what was verified a moment ago
                raise BadInput(f"{self.folder} belongs to another user", do="set TMPDIR to a folder of your own")
        with self._locked(path.name[:2]):
            if path.is_file():
                _used(path)
                yield path
                return
            with fetch() as fetched:
                with explained(path):
                    self._keep(fetched, path)
                yield fetched

    def forget(self, digest: str) -> None:
        """Remove a file that turned out to be another."""
        (self.folder / digest.removeprefix("sha256:")).unlink(missing_ok=True)

    def _keep(self, fetched: Path, path: Path) -> None:
        """Keep a file, once there is room for it; one that is larger than the whole is not."""
        size = fetched.stat().st_size
        with self._locked("room"):
            there = sorted(self._files(), key=lambda one: one[1].st_mtime_ns)
            used = sum(state.st_size for _, state in there)
            limit = min(self.limit, (used + size + shutil.disk_usage(self.folder).free) // 2)
            if size > limit:
                return
            for old, state in there:
                if used + size <= limit:
                    break
                with self._locked(old.name[:2], wait=False) as free:
                    if free:  # else another process opens it just now
                        old.unlink(missing_ok=True)
                        used -= state.st_size
            if used + size <= limit:
                beside = path.with_name(f".{path.name}")
                beside.unlink(missing_ok=True)  # of one who was killed here: nobody else is, in this lock
                try:
                    os.link(fetched, beside)
                except OSError:
                    shutil.copyfile(fetched, beside)
                _used(beside)
                beside.replace(path)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if len(path.name) == NAME:
                    yield path, path.stat()

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold one of the folder's 257 locks; false where another has it and `wait` is not set."""
        path = self.folder / f"{name}.lock"
        with explained(path):
            handle = path.open("a")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True


def _used(path: Path) -> None:
    """Write down that it is used now: by our clock, since the kernel's own is milliseconds coarse."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


def kept_here() -> Kept | None:
    """Those of this machine: in its temporary folder, each user's apart. None where nothing is to be kept.

    Raises:
        BadInput: `MODELYARD_SHARD_CACHE` is no amount of bytes.
    """
    said = os.environ.get(VARIABLE) or DEFAULT
    try:
        limit = int(Quantity.parse(said).value)
    except ValueError as error:
        raise BadInput(f"{VARIABLE}: {error}", do=f"write it like {DEFAULT}") from None
    return Kept(Path(tempfile.gettempdir()) / f"modelyard-shards-{os.getuid()}", limit) if limit else None
