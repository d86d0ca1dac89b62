"""Where the laptop's services keep what they know: the one place that spells paths."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelyard.errors import BadInput


@dataclass(frozen=True)
class Home:
    """The folder of one yard, `<project>/.modelyard/yard`."""

    path: Path

    @property
    def records(self) -> Path:
        """Wishes and attempts, a JSON file each."""
        return self.path / "records"

    @property
    def router(self) -> Path:
        """Envoy's configuration and what was asked of it."""
        return self.path / "router"

    @property
    def arms(self) -> Path:
        """What runs or should run: one folder for each arm."""
        return self.path / "arms"

    @property
    def archives(self) -> Path:
        """Model archives by digest."""
        return self.path / "archives"

    @property
    def key(self) -> Path:
        """The key that archives are signed with, `packaging.signing.SIGNING_KEY`."""
        return self.path / "keys" / "signing.pem"

    @property
    def history(self) -> Path:
        """Who was champion when: a file of JSON lines for each model, only ever appended to."""
        return self.path / "history"

    @property
    def logs(self) -> Path:
        """Logs of everything that runs here."""
        return self.path / "logs"

    def every_log(self) -> Iterator[Path]:
        """The logs there are: of the services, and of each server."""
        yield from self.logs.glob("*.log")
        yield from self.arms.glob("*/*/*/*.log")

    @property
    def yard(self) -> Path:
        """Addresses and pid of what runs; there only while it runs."""
        return self.path / "yard.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that serves this home."""
        return self.path / "lock"


def file_name(name: str, *, what: str) -> str:
    """`name`, if it can be a file's name and a part of an URL.

    Raises:
        BadInput: it holds `/`, `:`, blanks, or begins with a dot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise BadInput(
            f"{what} {name!r} cannot be used",
            do="write it with letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return name


def split_key(key: str) -> tuple[str, str]:
    """Namespace and name of a key `namespace/name`.

    Raises:
        BadInput: it has another form.
    """
    namespace, slash, name = key.partition("/")
    if not slash:
        raise BadInput(f"{key!r} is no key of a deployment", do="write it as namespace/name")
    return file_name(namespace, what="namespace"), file_name(name, what="deployment")
