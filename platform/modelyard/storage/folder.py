"""A store that is a folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelyard.errors import BadInput
from modelyard.storage.atomic import explained, is_staged, scratch
from modelyard.storage.port import Stored


class FolderStore:
    """Files below `folder`; versions are not kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = str(folder)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Files whose key begins with `prefix`, by key. What others are about to write or remove is not among them."""
        found = []
        for folder, below, names in os.walk(self.folder):
            below[:] = [name for name in below if not is_staged(name)]
            for path in (Path(folder) / name for name in names):
                key = path.relative_to(self.folder).as_posix()
                with suppress(FileNotFoundError):
                    if key.startswith(prefix) and path.is_file():
                        found.append(Stored(key=key, bytes=path.stat().st_size))
        yield from sorted(found, key=lambda stored: stored.key)

    def read(self, key: str, *, version: str = "") -> bytes:  # noqa: ARG002 - the port's
        """The bytes of one file."""
        return self._existing(key).read_bytes()

    @contextmanager
    def opened(self, key: str, *, version: str = "") -> Iterator[Path]:  # noqa: ARG002 - the port's
        """The file itself."""
        yield self._existing(key)

    def write(self, key: str, source: Path, *, once: bool = False) -> Stored:
        """Copy `source` to `key`, whole or not at all."""
        target = self._path(key)
        if once and target.is_file():
            return Stored(key=key, bytes=target.stat().st_size)
        with explained(target), scratch(target) as folder:
            shutil.copyfile(source, folder / target.name)
            (folder / target.name).replace(target)
        return Stored(key=key, bytes=target.stat().st_size)

    def _path(self, key: str) -> Path:
        path = self.folder / key
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise BadInput(f"{key} leads out of {self.folder}", do="use a key below it")
        return path

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise BadInput(f"There is no file {key} in {self.folder}", do="restore it or name another one")
        return path
