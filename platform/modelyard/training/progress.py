"""How a training tells its parent how far it is: lines of JSON in a file, so that nothing is lost when either dies."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEP_EVERY_S = 0.25
"""Steps are told at most this often; epochs always."""


class Teller:
    """Writes the lines; the first process of a training has one that writes, the others one that does not."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1) if path else None
        self._next = 0.0

    def tell(self, event: str, **what: Any) -> None:
        """Write one line now."""
        if self._file:
            self._file.write(json.dumps({"at": time.time(), "event": event, **what}) + "\n")

    def sometimes(self, event: str, **what: Any) -> None:
        """Write one line, unless one was written a moment ago."""
        if self._file and time.monotonic() >= self._next:
            self._next = time.monotonic() + STEP_EVERY_S
            self.tell(event, **what)


class Follower:
    """Reads lines as they come; an unfinished last line waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[Mapping[str, Any]]:
        """The events since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
