"""Who was champion when: our own record, append-only, since a registry forgets what an alias named before."""

import json
import os
from pathlib import Path

from modelyard.record import record
from modelyard.spec.codec import from_data, to_data
from modelyard.storage.atomic import explained


@record
class Reign:
    """From `at` on, `alias` of `model` named `version`."""

    at: float
    """Seconds since the epoch, when it was observed."""
    model: str
    alias: str
    version: str
    """Empty: the alias named nothing."""
    digest: str = ""
    by: str = ""
    """Who moved it, as far as known: `promote`, `rollback`, or empty for a hand in MLflow."""


class History:
    """A file of JSON lines in `folder` for each model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, reign: Reign) -> bool:
        """Append, unless that is what stands there last; whether it was appended."""
        last = self.last(reign.model, reign.alias)
        if last is not None and (last.version, last.digest) == (reign.version, reign.digest):
            return False
        path = self._path(reign.model)
        line = json.dumps(to_data(reign), sort_keys=True) + "\n"
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                size = os.fstat(held).st_size
                whole = size == 0 or os.pread(held, 1, size - 1) == b"\n"  # else a kill cut the last line short
                os.write(held, (line if whole else "\n" + line).encode())  # one write: two writers' lines never mix
                os.fsync(held)
            finally:
                os.close(held)
        return True

    def all(self, model: str) -> tuple[Reign, ...]:
        """Oldest first. A last line that a kill cut short is left out."""
        path = self._path(model)
        if not path.is_file():
            return ()
        reigns = []
        for line in path.read_text("utf-8", errors="replace").splitlines():
            try:
                data = json.loads(line)
            except ValueError:
                continue
            reigns.append(from_data(Reign, data, where=str(path)))
        return tuple(reigns)

    def last(self, model: str, alias: str) -> Reign | None:
        """What the alias named when it was last noted."""
        return next((reign for reign in reversed(self.all(model)) if reign.alias == alias), None)

    def before(self, model: str, alias: str) -> Reign | None:
        """The version before the last one: where `undo` goes."""
        named = [reign for reign in self.all(model) if reign.alias == alias and reign.version]
        return next((reign for reign in reversed(named) if reign.version != named[-1].version), None) if named else None

    def _path(self, model: str) -> Path:
        return self._folder / f"{model}.jsonl"
