"""The user's code as an archive named by its digest.

The same files give the same bytes on every machine, so that a stage's key may contain the digest, and
trainer ranks, evaluation and the handler can each check that they run what was packed.
"""

import io
import os
import secrets
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelyard.errors import BadInput, Tampered
from modelyard.storage.atomic import digest_file, explained, staging
from modelyard.storage.ignore import ignored_by

IGNORE_FILE = ".modelyardignore"
LIMIT_BYTES = 100 * 1000 * 1000
"""More than this is no code: most likely data, weights or an environment."""


@dataclass(frozen=True, kw_only=True)
class CodeArchive:
    """A packed folder."""

    digest: str
    """`sha256:…` of the archive's bytes."""
    path: Path


def pack(folder: Path, into: Path) -> CodeArchive:
    """Pack the files of `folder` as `into/<sha256>.tar`: sorted, without times, owners or modes.

    `.modelyardignore` (gitignore's syntax) names what stays out; `.git`, `.modelyard`, `.venv`,
    `__pycache__` and `*.pyc` always do. Links within the folder are packed as what they point to.

    Raises:
        BadInput: no such folder; a link that leads out of it, nowhere or in a circle; more than 100 MB.
    """
    if not folder.is_dir():
        raise BadInput(f"The code folder {folder} is no folder", do="name the folder that holds your recipe")
    files = sorted(_files(folder))
    _check_size(files)
    with explained(into):
        into.mkdir(parents=True, exist_ok=True)
        beside = into / f".{secrets.token_hex(6)}.tmp"
        try:
            _write(beside, files)
            digest = digest_file(beside)
            path = beside.replace(into / f"{digest.removeprefix('sha256:')}.tar")
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    return CodeArchive(digest=digest, path=path)


def unpack(archive: Path, digest: str, into: Path) -> Path:
    """Unpack `archive` as the folder `into/<sha256>`, unless that stands there already, unchanged.

    Raises:
        BadInput: there is no such archive.
        Tampered: the bytes differ from `digest`, a member would land outside or is no plain file, or
            the folder that stands there differs from the archive.
    """
    if not archive.is_file():
        raise BadInput(f"There is no code archive {archive}", do="run again from the stage that packs the code")
    if (found := digest_file(archive)) != digest:
        raise Tampered(f"{archive} has digest {found}, not {digest}", do="pack the code again")
    final = into / digest.removeprefix("sha256:")
    if final.is_dir():
        for name, data in _members(archive):
            there = final / name
            if not there.is_file() or there.read_bytes() != data:
                raise Tampered(f"{there} differs from its archive", do=f"remove {final} and run again")
        return final
    with staging(final) as staged:
        for name, data in _members(archive):
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(data)
    return final


def _files(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Each file to pack: its name in the archive, its path, its size in bytes."""
    rules = folder / IGNORE_FILE
    ignored = ignored_by(rules.read_text("utf-8") if rules.is_file() else "")
    top = folder.resolve()
    waiting: list[tuple[Path, str, tuple[Path, ...]]] = [(folder, "", (top,))]
    while waiting:
        here, prefix, above = waiting.pop()
        for entry in _entries(here):
            name = prefix + entry.name
            path = Path(entry.path)
            target = path.resolve()
            if ignored(name, target.is_dir()):
                continue
            if entry.is_symlink() and not (target.is_relative_to(top) and target.exists()):
                raise BadInput(
                    f"The link {path} leads {'out of the code folder' if target.exists() else 'nowhere'}, to {target}",
                    do=f"copy what it points to into the folder, or name it in {IGNORE_FILE}",
                )
            if target.is_dir():
                if target in above:
                    raise BadInput(f"The link {path} leads in a circle", do=f"remove it or name it in {IGNORE_FILE}")
                waiting.append((path, name + "/", (*above, target)))
            elif stat.S_ISREG((status := target.stat()).st_mode):
                yield name, path, status.st_size


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be read: {error.strerror}", do=f"make it readable or name it in {IGNORE_FILE}"
        ) from error


def _check_size(files: list[tuple[str, Path, int]]) -> None:
    total = sum(size for _, _, size in files)
    if total <= LIMIT_BYTES:
        return
    largest = sorted(files, key=lambda file: -file[2])[:3]
    named = ", ".join(f"{name} ({size / 1e6:.0f} MB)" for name, _, size in largest)
    raise BadInput(
        f"The code folder holds {total / 1e6:.0f} MB, more than {LIMIT_BYTES / 1e6:.0f} MB; largest: {named}",
        do=f"name what is not code in {IGNORE_FILE}",
    )


def _write(path: Path, files: list[tuple[str, Path, int]]) -> None:
    with path.open("xb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, source, _ in files:
            try:
                data = source.read_bytes()
            except OSError as error:
                raise BadInput(
                    f"{source} cannot be read: {error.strerror}", do=f"make it readable or name it in {IGNORE_FILE}"
                ) from error
            member = tarfile.TarInfo(name)  # mode 0644, time 0, owner 0 are its defaults
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file. Uncompressed only, so that a small archive cannot unpack into a big folder."""
    total = 0
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                plain = member.isreg() and not member.issparse()
                if not plain or name.is_absolute() or ".." in name.parts or not name.parts:
                    raise Tampered(
                        f"{archive} holds {member.name!r}, which is no plain file inside of it",
                        do="pack the code again",
                    )
                total += member.size
                if total > LIMIT_BYTES:
                    raise Tampered(
                        f"{archive} unpacks to more than {LIMIT_BYTES / 1e6:.0f} MB", do="pack the code again"
                    )
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, content.read()
    except tarfile.TarError as error:
        raise Tampered(f"{archive} is no code archive ({error})", do="pack the code again") from error
