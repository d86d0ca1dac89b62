"""Writes happen whole or not at all, also when the process is killed in the middle."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import BadInput, StageFailed
from modelyard.storage.atomic import digest_bytes, digest_file, staging, sweep, write_bytes, write_text


def test_a_file_and_its_bytes_have_one_digest(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"bytes")
    assert digest_file(tmp_path / "a") == digest_bytes(b"bytes")
    assert digest_bytes(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_write_replaces_and_makes_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a", "old")
    write_text(tmp_path / "deep" / "a", "new")
    assert (tmp_path / "deep" / "a").read_text() == "new"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]


def test_no_space_left_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StageFailed, match=r"No space left .* Free space"):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_read_only_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, *_: Any, **__: Any) -> io.BytesIO:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(BadInput, match="Read-only file system"):
        write_text(tmp_path / "a", "new")


def test_a_folder_where_the_file_belongs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInput, match="is in the way"):
        write_text(tmp_path / "a", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_staged_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with staging(final) as staged:
        (staged / "sub").mkdir()
        (staged / "sub" / "a").write_text("a")
        assert not final.exists()
    assert (final / "sub" / "a").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_staged_folder_vanishes_on_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with staging(tmp_path / "out") as staged:
            (staged / "a").write_text("a")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_by_then_wins(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with staging(final) as staged:
        (staged / "a").write_text("ours")
        final.mkdir()
        (final / "a").write_text("theirs")
    assert (final / "a").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_where_the_folder_belongs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInput, match="is a file where a folder belongs"), staging(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "a file"


def test_what_a_killed_process_staged_is_removed_and_what_a_living_one_stages_is_not(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from modelyard.storage.atomic import staging\n"
        "with staging(Path(sys.argv[1])) as staged:\n"
        "    (staged / 'half').write_text('half'); print('ready', flush=True); sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "out")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with staging(tmp_path / "out") as staged:
            (staged / "a").write_text("a")
        assert len(list(tmp_path.glob(".out.*.staged"))) == 1, "the living one's is left alone"
        other.send_signal(signal.SIGKILL)
        other.wait()
    with staging(tmp_path / "out") as staged:
        (staged / "a").write_text("a")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_sweep_takes_what_is_half_written_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    for half in (
        "run/.run.json.4c1d4c1d4c1d.tmp",
        "stage/.out.4c1d4c1d4c1d.staged/half",
        ".4c1d4c1d4c1d.new/half",
        "deep/er/.code.4c1d4c1d4c1d.tmp/half",
    ):
        (tmp_path / half).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / half).write_text("half")
    for whole in ("run/run.json", "run/a.tmp", ".hidden/whole", "deep/er/.settings", "code/.theirs.tmp"):
        (tmp_path / whole).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / whole).write_text("whole")
    sweep(tmp_path)
    assert {path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {"whole"}
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5
    sweep(tmp_path / "not there")
