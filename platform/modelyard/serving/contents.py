"""What is in a model archive, judged before anything of it is unpacked or opened.

An archive is a zip without compression (so that it cannot unpack into more than it is) whose `manifest.json` names the
sha256 of every other file. Writer (packaging), server and handler agree on these names:

    manifest.json, manifest.sig     digests, and their signature where the project has a key
    golden.json                     requests with recorded answers
    model/…                         the model folder of the chosen variant
    fallback/…, fallback.json       the uncompressed model and its golden requests, for nodes of other types
    modelyard/model/*.py            the code that reads it, as it was when the model was evaluated
    modelyard_handler.py, MAR-INF/  what TorchServe looks for
"""

import base64
import hashlib
import json
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Any

from modelyard.errors import BadInput, Tampered
from modelyard.model.node import node_type
from modelyard.record import record
from modelyard.spec.codec import from_json

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
GOLDEN = "golden.json"
MODEL = "model"
FALLBACK = "fallback"
FALLBACK_GOLDEN = "fallback.json"
_REBUILD = "package the model again, or fetch the archive again"


@record
class VariantFacts:
    """One variant that was measured for this version; times are in the compression report, kept with the version."""

    name: str
    digest: str
    """Of its model folder."""
    node_type: str
    """Where it was measured."""
    bytes: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    """On the validation split."""


@record
class Fallback:
    """What serves on nodes of other types than the chosen variant was measured on."""

    model: str
    """Digest of its model folder."""
    variant: str
    threads: int = 1


@record
class Manifest:
    """Digests of everything in an archive but the manifest itself and its signature."""

    name: str
    model: str
    """Digest of the model folder."""
    variant: str
    threads: int = 1
    node_types: tuple[str, ...] = ()
    """Where `model` serves; empty: everywhere."""
    fallback: Fallback | None = None
    """What serves elsewhere."""
    variants: tuple[VariantFacts, ...] = ()
    """All that were measured, of which the archive carries one or two."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path in the archive → `sha256:…`."""


@record
class Golden:
    """A request of the test split and the answer that was recorded for it."""

    id: str
    content_type: str
    body: Any
    """A JSON value, or base64 text for other content types."""
    answer: Any


@record
class GoldenRequests:
    """What a server of this archive must answer before anybody relies on it."""

    requests: tuple[Golden, ...]
    tolerance: float = 1e-3
    """How far each number of an answer may be away: absolute, plus relative to the recorded one."""


@record
class Contents:
    """An archive that was checked."""

    manifest: Manifest
    manifest_digest: str
    golden: GoldenRequests
    """Of the variant that serves on this node."""
    folder: str = MODEL
    """Its model folder in the archive."""
    variant: str = ""
    threads: int = 1


def serving_folder(manifest: Manifest, node: str) -> str:
    """The model folder that serves on a node of this type.

    Raises:
        BadInput: none does.
    """
    if not manifest.node_types or node in manifest.node_types:
        return MODEL
    if manifest.fallback is None:
        raise BadInput(
            f"{manifest.name} serves on {', '.join(manifest.node_types)}, and this node is {node}",
            do="package it with the uncompressed model as fallback",
        )
    return FALLBACK


def read_contents(archive: Path, *, node: str | None = None) -> Contents:
    """Check an archive whole: its structure, and each file against the manifest.

    Args:
        archive: the `.mar`.
        node: type of the node that serves it; this one when absent.

    Raises:
        BadInput: no archive of ours.
        Tampered: a file is missing, was changed or does not belong there, leads out of the archive, or unpacks to
            more than the archive holds.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            _check_structure(archive, zipped)
            manifest_bytes = _read(archive, zipped, MANIFEST)
            manifest = from_json(Manifest, manifest_bytes, where=f"{archive}: {MANIFEST}")
            names = {info.filename for info in zipped.infolist()}
            if strange := sorted(names - set(manifest.files) - {MANIFEST, SIGNATURE}):
                raise Tampered(f"{archive} holds {strange[0]!r}, which its manifest does not name", do=_REBUILD)
            for name, digest in manifest.files.items():
                if name not in names:
                    raise Tampered(f"{archive} lacks {name!r}, which its manifest names", do=_REBUILD)
                with zipped.open(name) as file:
                    found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"  # type: ignore[arg-type]
                if found != digest:
                    raise Tampered(f"{archive}: {name!r} has digest {found}, not {digest}", do=_REBUILD)
            folder = serving_folder(manifest, node or node_type())
            name = GOLDEN if folder == MODEL else FALLBACK_GOLDEN
            golden = from_json(GoldenRequests, _read(archive, zipped, name), where=f"{archive}: {name}")
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise Tampered(f"{archive} is no whole zip file ({error})", do=_REBUILD) from None
    except OSError as error:
        raise BadInput(f"{archive} cannot be read ({error.strerror})", do="name a model archive (.mar)") from None
    digest = f"sha256:{hashlib.sha256(manifest_bytes).hexdigest()}"
    fits: Manifest | Fallback = manifest if folder == MODEL or manifest.fallback is None else manifest.fallback
    return Contents(
        manifest=manifest,
        manifest_digest=digest,
        golden=golden,
        folder=folder,
        variant=fits.variant,
        threads=fits.threads,
    )


def read_member(archive: Path, name: str) -> bytes:
    """One file of an archive that was checked.

    Raises:
        BadInput: there is no such file in it.
    """
    with zipfile.ZipFile(archive) as zipped:
        return _read(archive, zipped, name)


def _check_structure(archive: Path, zipped: zipfile.ZipFile) -> None:
    size = archive.stat().st_size
    seen: set[str] = set()
    total = 0
    for info in zipped.infolist():
        name = info.filename
        inside = PurePosixPath(name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if inside.is_absolute() or ".." in inside.parts or "\\" in name or "\0" in info.orig_filename or not name:
            raise Tampered(f"{archive} holds {name!r}, which leads out of it", do=_REBUILD)
        if name in seen:
            raise Tampered(f"{archive} holds {name!r} twice", do=_REBUILD)
        if info.is_dir() or kind not in (0, stat.S_IFREG) or info.flag_bits & 0x1:
            raise Tampered(f"{archive} holds {name!r}, which is no plain file", do=_REBUILD)
        seen.add(name)
        total += info.file_size
        if info.compress_type != zipfile.ZIP_STORED or total > size:
            raise Tampered(f"{archive} of {size} bytes unpacks to more than that, at {name!r}", do=_REBUILD)


def _read(archive: Path, zipped: zipfile.ZipFile, name: str) -> bytes:
    try:
        return zipped.read(name)
    except KeyError:
        raise BadInput(f"{archive} has no {name}: it is no model archive of ours", do=_REBUILD) from None


def golden_body(golden: Golden) -> bytes:
    """The bytes to send for a golden request."""
    if golden.content_type == "application/json":
        return json.dumps(golden.body).encode()
    return base64.b64decode(golden.body)
