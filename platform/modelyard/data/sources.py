"""Where examples come from: one reader for each format, all giving chunks of columns.

A source may be read more than once and gives the same chunks each time: once to look at all examples,
once to write them. Neither holds more than a chunk.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from modelyard.data.columns import Columns
from modelyard.data.prepared import FILE
from modelyard.data.remembered import Remembered
from modelyard.data.split import check_splits
from modelyard.errors import BadInput
from modelyard.spec.data import Data, Shards
from modelyard.storage.atomic import digest_file, explained, scratch
from modelyard.storage.port import Store, Stored, open_store

FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npz": "npz"}


class Source(Protocol):
    """Examples, by chunks."""

    name: str
    """What messages call it."""
    id: str | None
    """Column that names examples by the nature of the source (an image's path); None: it has none."""

    def types(self) -> dict[str, str]:
        """Each column's type: number, integer, boolean, text, image or array. May read the whole source."""

    def chunks(self) -> Iterator[Columns]:
        """The examples, in the source's own order; all chunks have the columns of `types`."""

    def where(self, row: int) -> str:
        """How a person finds example number `row`, counted from 0."""


def check_data(spec: Data) -> None:
    """Refuse settings that cannot be, before anything is read.

    Raises:
        BadInput: names the field.
    """
    check_splits(spec.splits)
    if spec.shard_size < 1:
        raise BadInput(f"data.shardSize is {spec.shard_size}", do="write at least 1")
    if spec.checks.fill and spec.checks.missing != "fill":
        raise BadInput("data.checks.fill is set but missing is not fill", do="set data.checks.missing: fill")
    if spec.labels.classes is not None and spec.labels.kind != "class":
        raise BadInput(f"data.labels.classes is set but kind is {spec.labels.kind}", do="leave one of them out")
    if isinstance(spec.source, Shards) and spec != Data(source=spec.source, labels=spec.labels):
        raise BadInput(
            "data.source.shards takes shards as they are", do="leave out all other fields of data but labels"
        )


@contextmanager
def open_source(spec: Data, base: Path, *, work: Path) -> Iterator[Source]:
    """The reader of `spec.source`; relative paths start at `base`, objects of a bucket are brought below `work`.

    Raises:
        BadInput: nothing there, an empty file, a folder where a file belongs, or no known format.
    """
    assert isinstance(spec.source, str)
    if spec.source.startswith("bundled:"):
        from modelyard.data.arrays import bundled  # noqa: PLC0415

        yield bundled(spec.source.removeprefix("bundled:"))
        return
    if "://" in spec.source:
        with scratch(work / "source") as folder:
            yield _reader(_brought(spec.source, folder), spec)
        return
    path = (base / Path(spec.source).expanduser()).resolve()
    with explained(path):
        yield _reader(path, spec)


def _brought(uri: str, folder: Path) -> Path:
    """One object, or all objects below a prefix, as local files.

    Raises:
        BadInput: nothing there, or a key that leads out of the folder.
    """
    store, within, found = _objects(uri)
    for stored in found:
        target = folder / "source" / stored.key
        if not target.resolve().is_relative_to(folder.resolve()):
            raise BadInput(f"data.source: the key {stored.key!r} leads out of its folder", do="rename the object")
        target.parent.mkdir(parents=True, exist_ok=True)
        with store.opened(stored.key, version=stored.version) as path:
            shutil.move(path, target)
    return folder / "source" / within


def _objects(uri: str) -> tuple[Store, str, list[Stored]]:
    """The store, and in it the one object or all objects below the prefix that `uri` names, with that name.

    Raises:
        BadInput: there is nothing.
    """
    above, _, name = uri.rstrip("/").rpartition("/")
    # s3://bucket/key: the store is what lies above the key; s3://bucket: the whole bucket
    store, within = (open_store(above), name) if above.count("/") > 1 else (open_store(uri), "")
    below = f"{within}/" if within else ""
    found = [s for s in store.list(within) if s.key == within or (s.key.startswith(below) and not s.key.endswith("/"))]
    if not found:
        raise BadInput(f"data.source: there is nothing at {uri}", do="correct the address")
    return store, within, found


def _reader(path: Path, spec: Data) -> Source:
    """The reader for what lies at `path`.

    Raises:
        BadInput: as `open_source`.
    """
    if not path.exists():
        raise BadInput(f"data.source: there is no {path}", do="correct the path; it starts at the folder of the file")
    kind = spec.format or FORMATS.get(path.suffix.lower()) or ("images" if path.is_dir() else None)
    if kind is None:
        raise BadInput(f"data.source: the format of {path.name} is not known", do=f"set data.format: {_formats()}")
    if kind != "images" and path.is_dir():
        raise BadInput(f"data.source: {path} is a folder where a {kind} file belongs", do="name the file in it")
    if kind == "images" and not path.is_dir():
        raise BadInput(f"data.source: {path} is a file where a folder of images belongs", do="name its folder")
    if path.is_file() and path.stat().st_size == 0:
        raise BadInput(f"data.source: {path} is empty", do="name a file with examples")
    return _class(kind)(path, spec)


def source_digest(spec: Data, *, base: Path, memory: Path | None = None) -> str:
    """`sha256:…` over the source's bytes: what a stage's key holds, so that changed data are prepared anew.

    Args:
        spec: names the source.
        base: folder that relative paths start from.
        memory: file in which digests of local files are kept, so that only what changed is read again.

    Raises:
        BadInput: there is nothing.
    """
    source = spec.source.shards if isinstance(spec.source, Shards) else spec.source
    if "://" in source:
        lines = [f"{stored.key} {stored.bytes} {stored.version or stored.tag}" for stored in _objects(source)[2]]
    elif source.startswith("bundled:"):
        lines = [source]
    else:
        top = (base / Path(source).expanduser()).resolve()
        if not top.exists():
            raise BadInput(f"data.source: there is no {top}", do="correct the path; it starts at the file's folder")
        if isinstance(spec.source, Shards):
            top /= FILE  # names the digest of each shard
            if not top.is_file():
                raise BadInput(f"data.source.shards: there is no {top}", do="name what prepare wrote")
        files = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        known = Remembered(memory) if memory else None
        digest = known.digest if known else digest_file
        lines = [f"{path.relative_to(top).as_posix()} {digest(path)}" for path in files]
        if known:
            known.keep()
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _formats() -> str:
    return ", ".join(sorted({*FORMATS.values(), "images"}))


def _class(kind: str) -> Callable[[Path, Data], Source]:
    """The class that reads a format; imported when needed, since each brings its own library."""
    if kind == "npz":
        from modelyard.data.arrays import NpzSource  # noqa: PLC0415

        return NpzSource
    if kind == "csv":
        from modelyard.data.delimited import CsvSource  # noqa: PLC0415

        return CsvSource
    if kind == "jsonl":
        from modelyard.data.jsonl import JsonlSource  # noqa: PLC0415

        return JsonlSource
    if kind == "parquet":
        from modelyard.data.parquet import ParquetSource  # noqa: PLC0415

        return ParquetSource
    if kind == "images":
        from modelyard.data.images import ImageFolder  # noqa: PLC0415

        return ImageFolder
    raise BadInput(f"data.format: {kind} is not known", do=f"use one of {_formats()}")
