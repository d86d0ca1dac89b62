"""A file is read again when it may be another one, and only then."""

import os
import time
from pathlib import Path

import pytest

from modelyard.data import remembered
from modelyard.data.prepare import source_digest
from modelyard.data.remembered import Remembered
from modelyard.spec.data import Data
from modelyard.storage.atomic import digest_file

LONG_AGO = 1_600_000_000


class Reads:
    """Counts what is really read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(remembered, "digest_file", self)

    def __call__(self, path: Path) -> str:
        self.count += 1
        return digest_file(path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Files of this test are as old as their time stamps say, though they were made a moment ago."""
    monkeypatch.setattr(remembered, "_YOUNG_NS", -1_000_000_000)
    return Reads(monkeypatch)


def digest(path: Path, memory: Path) -> str:
    known = Remembered(memory)
    found = known.digest(path)
    known.keep()
    return found


def test_a_file_is_read_once(tmp_path: Path, reads: Reads) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n")
    assert digest(file, tmp_path / "memory") == digest(file, tmp_path / "memory") == digest_file(file)
    assert reads.count == 1


def test_a_file_of_the_same_size_and_time_is_still_another_one(tmp_path: Path, reads: Reads) -> None:
    """`cp -p`, `touch -d` and `rsync -t` set the time of the content back, never that of the inode."""
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n")
    os.utime(file, (LONG_AGO, LONG_AGO))
    first = digest(file, tmp_path / "memory")
    file.write_text("c,d\n")
    os.utime(file, (LONG_AGO, LONG_AGO))
    assert digest(file, tmp_path / "memory") == digest_file(file) != first


def test_a_file_that_replaced_another_is_read(tmp_path: Path, reads: Reads) -> None:
    file, other = tmp_path / "rows.csv", tmp_path / "other.csv"
    file.write_text("a,b\n")
    other.write_text("c,d\n")
    for path in (file, other):
        os.utime(path, (LONG_AGO, LONG_AGO))
    first = digest(file, tmp_path / "memory")
    other.replace(file)
    assert digest(file, tmp_path / "memory") != first


def test_a_file_that_was_changed_a_moment_ago_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be changed again within one tick of the file system's clock (git calls it racily clean)."""
    counted = Reads(monkeypatch)
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n")
    assert time.time_ns() - file.stat().st_mtime_ns < 2_000_000_000
    digest(file, tmp_path / "memory")
    digest(file, tmp_path / "memory")
    assert counted.count == 2


@pytest.mark.parametrize("text", ["", "{", '{"files": 3}', '{"files": {"x": {"stat": "y"}}}'])
def test_a_memory_that_cannot_be_read_is_forgotten(tmp_path: Path, reads: Reads, text: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n")
    (tmp_path / "memory").write_text(text)
    assert digest(file, tmp_path / "memory") == digest_file(file)


def test_the_digest_of_a_folder_is_the_same_with_a_memory_and_follows_each_file(tmp_path: Path, reads: Reads) -> None:
    source, memory = tmp_path / "images", tmp_path / "memory"
    (source / "a").mkdir(parents=True)
    for name in ("a/1.png", "a/2.png"):
        (source / name).write_text(name)
    spec = Data(source="images")
    plain = source_digest(spec, base=tmp_path)
    assert source_digest(spec, base=tmp_path, memory=memory) == plain
    assert source_digest(spec, base=tmp_path, memory=memory) == plain
    assert reads.count == 2
    (source / "a/2.png").write_text("other")
    assert source_digest(spec, base=tmp_path, memory=memory) == source_digest(spec, base=tmp_path) != plain
    (source / "a/1.png").unlink()
    assert source_digest(spec, base=tmp_path, memory=memory) == source_digest(spec, base=tmp_path)
    assert "1.png" not in memory.read_text()
