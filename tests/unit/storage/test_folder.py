"""A store that is a folder, as several writers see it."""

import threading
from pathlib import Path

from modelyard.storage.folder import FolderStore


def test_what_is_being_written_is_not_listed_and_disturbs_no_list(tmp_path: Path) -> None:
    store, source = FolderStore(tmp_path / "store"), tmp_path / "source"
    source.write_bytes(b"bytes")
    store.write("a/first", source)
    done = threading.Event()

    def write() -> None:
        for number in range(300):
            store.write(f"a/{number % 7}", source)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        for stored in store.list("a/"):
            assert stored.key in {"a/first", *(f"a/{number}" for number in range(7))}
            assert stored.bytes == 5
    writer.join()
    assert len(list(store.list())) == 8
