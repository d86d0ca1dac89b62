"""What the pods of a training wrote, kept: each pod's lines in a file, which outlives the pod in the artifact store."""

from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from modelyard.errors import ModelyardError
from modelyard.storage.port import Store
from modelyard.training.follow import Line

TAIL = 200
"""Lines of each pod that a diagnosis looks at."""
FOLDER = "logs"


class Logbook:
    """Writes lines as they come; `<pod>-<uid>.log`, each line with its time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, IO[str]] = {}
        self._tails: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=TAIL))
        self._kept: dict[str, int] = {}

    def write(self, line: Line) -> None:
        """Keep one line."""
        name = f"{line.pod}-{line.uid[-8:]}.log"
        if name not in self._files:
            self._folder.mkdir(parents=True, exist_ok=True)
            # whoever comes back reads the log from its beginning
            self._files[name] = (self._folder / name).open("w", encoding="utf-8", buffering=1)
        self._files[name].write(f"{line.time} {line.text}\n")
        self._tails[line.uid].append(line.text)

    def tail(self, uid: str) -> tuple[str, ...]:
        """The last lines of a pod."""
        return tuple(self._tails.get(uid, ()))

    @property
    def files(self) -> Mapping[str, Path]:
        """Name → file."""
        return {name: self._folder / name for name in sorted(self._files)}

    def keep(self, store: Store, training: str) -> None:
        """Put what is new into the store; one that is away costs no training."""
        for name, path in self.files.items():
            size = path.stat().st_size
            if self._kept.get(name) != size:
                with suppress(ModelyardError):
                    store.write(f"trainings/{training}/{FOLDER}/{name}", path)
                    self._kept[name] = size

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
