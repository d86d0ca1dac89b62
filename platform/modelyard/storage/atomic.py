"""Writes that happen whole or not at all.

Every stage may be killed at any moment. So a file is written beside its place and renamed onto it, and
a folder of results is filled under another name and renamed once it is complete: whoever sees the
final name sees finished work.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelyard.errors import BadInput, ModelyardError, StageFailed


def digest_bytes(data: bytes) -> str:
    """`sha256:` and the hexadecimal digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """`sha256:` and the hexadecimal digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all; folders above it are made.

    Raises:
        BadInput: the place cannot be written to (read-only, or a folder stands there).
        StageFailed: no space left. What stood at `path` is intact.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            with beside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def staging(final: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `final` when the block ends well, and vanishes when it does not.

    Where `final` exists by then, it wins and the staged folder is removed: equal keys mean equal content.
    What a killed process left behind for the same `final` is removed first.

    Raises:
        BadInput: the place cannot be written to, or a file stands at `final`.
        StageFailed: no space left.
    """
    with explained(final):
        if final.exists() and not final.is_dir():
            raise BadInput(f"{final} is a file where a folder belongs", do="remove it or name another place")
        with scratch(final) as staged:
            yield staged
            _flush(staged)
            with _existing_wins():
                staged.rename(final)


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Yield an empty folder that vanishes when the block ends: a hidden neighbour of the path `beside`.

    What a killed process left behind for the same `beside` is removed first.

    Raises:
        BadInput: the place cannot be written to.
        StageFailed: no space left.
    """
    with explained(beside):
        beside.parent.mkdir(parents=True, exist_ok=True)
        _sweep(beside)
        folder, held = _locked_folder(beside)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the system's errors about `path` into ours, so that they say what to do."""
    try:
        yield
    except ModelyardError:
        raise
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str) else path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StageFailed(f"No space left for {path}", do="free space on its disk and run again") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise BadInput(
                f"{named} cannot be used: {error.strerror}", do="change its permissions or name another place"
            ) from error
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
            raise BadInput(
                f"{named} is in the way: {error.strerror}", do="remove what stands there or name another place"
            ) from error
        raise


@contextmanager
def _existing_wins() -> Iterator[None]:
    """Let a rename onto a folder that is there already count as done."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def is_staged(name: str) -> bool:
    """Whether a folder of this name is one that `scratch` or `staging` fills: nobody else's to look into."""
    return name.startswith(".") and name.endswith((".staged", ".new"))


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written anywhere below `folder`; only while nothing writes there."""
    for root, folders, files in os.walk(folder):
        for name in [name for name in folders if _half_written(name)]:
            folders.remove(name)
            shutil.rmtree(Path(root) / name, ignore_errors=True)
        for name in filter(_half_written, files):
            (Path(root) / name).unlink(missing_ok=True)


def _half_written(name: str) -> bool:
    """Whether the name is one of ours, marked: unpacked code may hold hidden files that end alike."""
    return re.fullmatch(r"\.(.+\.)?[0-9a-f]{8,12}\.(tmp|staged|new)", name) is not None


def _locked_folder(final: Path) -> tuple[Path, int]:
    """A new folder beside `final` and the descriptor that locks it as long as this process lives.

    It gets the name that `_sweep` looks for only once it is locked, so that it is never swept while in use.
    """
    mark = secrets.token_hex(6)
    unnamed = final.with_name(f".{mark}.new")
    unnamed.mkdir()
    held = os.open(unnamed, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return unnamed.rename(final.with_name(f".{final.name}.{mark}.staged")), held


def _sweep(final: Path) -> None:
    """Remove staged folders for `final` whose process is gone."""
    prefix, suffix = f".{final.name}.", ".staged"
    for beside in final.parent.iterdir():
        if not (beside.name.startswith(prefix) and beside.name.endswith(suffix)):
            continue
        with suppress(OSError):
            held = os.open(beside, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(beside, ignore_errors=True)
            finally:
                os.close(held)


def _flush(folder: Path) -> None:
    """Bring a folder's files to the disk, so that the rename is not there before they are."""
    for root, _folders, files in os.walk(folder):
        for name in files:
            held = os.open(Path(root) / name, os.O_RDONLY)
            try:
                os.fsync(held)
            finally:
                os.close(held)
