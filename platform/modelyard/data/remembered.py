"""Digests of files that have not changed since they were digested: nobody waits for 100 GB to be read in vain."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import digest_file, write_text

_YOUNG_NS = 2_000_000_000
"""A file that changed so short a time before it was read may change again without another time stamp: the coarsest
clock of a file system in use ticks every two seconds. git calls such a file racily clean, and looks into it again."""


@record
class _Known:
    """A file as it was when it was digested."""

    stat: tuple[int, ...]
    """Size, inode, device, and when its content and its inode changed (ns): no tool can set the last one back."""
    digest: str


@record
class _Memory:
    files: Mapping[str, _Known]


class Remembered:
    """`digest(path)`, reading a file only where it is not the one that was read before.

    Args:
        file: where digests are kept between runs; what cannot be read there is forgotten.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before: Mapping[str, _Known] = {}
        self._now: dict[str, _Known] = {}
        with suppress(OSError, BadInput):
            self._before = from_json(_Memory, file.read_bytes(), where=str(file)).files

    def digest(self, path: Path) -> str:
        """`sha256:…` of a file's bytes."""
        name, before = str(path), path.stat()
        known = self._before.get(name)
        if known is not None and known.stat == _seen(before):
            self._now[name] = known
            return known.digest
        began = time.time_ns()
        digest = digest_file(path)
        old = max(before.st_mtime_ns, before.st_ctime_ns) < began - _YOUNG_NS
        if old and _seen(path.stat()) == _seen(before):
            self._now[name] = _Known(stat=_seen(before), digest=digest)
        return digest

    def keep(self) -> None:
        """Write down what was asked for; what was not is forgotten."""
        if self._now != self._before:
            write_text(self._file, to_json(_Memory(files=self._now)))


def _seen(stat: os.stat_result) -> tuple[int, ...]:
    return (stat.st_size, stat.st_ino, stat.st_dev, stat.st_mtime_ns, stat.st_ctime_ns)
