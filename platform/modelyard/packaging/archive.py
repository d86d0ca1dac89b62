"""The model archive's bytes: the same files make the same archive, on every machine.

torch-model-archiver stamps the time into its zip and manifest; then the digest, by which a version is known, would
differ for each packaging of the same model. So this is a zip writer of our own: sorted, dateless, uncompressed.
"""

import json
import shutil
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from modelyard.errors import Tampered
from modelyard.model.folder import FolderError, verify
from modelyard.serving.contents import FALLBACK, MODEL, read_contents
from modelyard.storage.atomic import digest_bytes, explained, staging

_DATELESS = (1980, 1, 1, 0, 0, 0)
HANDLER = "modelyard_handler.py"


def write_archive(out: Path, entries: Mapping[str, bytes | Path]) -> None:
    """Write a zip without compression.

    Args:
        out: the file to write.
        entries: path in the archive → content, or the file that holds it.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as zipped:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, date_time=_DATELESS)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            content = entries[name]
            zipped.writestr(info, content if isinstance(content, bytes) else content.read_bytes())


def serving_code(name: str) -> dict[str, bytes]:
    """What every archive carries beside its model: the handler, our `modelyard.model`, TorchServe's own manifest.

    Args:
        name: the model's name.
    """
    spec = find_spec("modelyard.model")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(next(iter(spec.submodule_search_locations)))
    handler = package.parent / "serving" / "handler.py"
    torchserve = {
        "createdOn": "01/01/1980 00:00:00",
        "runtime": "python",
        "model": {"modelName": name, "handler": HANDLER, "modelVersion": "1.0"},
        "archiverVersion": "modelyard",
    }
    code = {f"modelyard/model/{path.name}": path.read_bytes() for path in package.glob("*.py")}
    return code | {
        "modelyard/__init__.py": b'"""The part of Modelyard that reads this archive\'s model."""\n',
        HANDLER: handler.read_bytes(),
        "MAR-INF/MANIFEST.json": json.dumps(torchserve, indent=2, sort_keys=True).encode(),
    }


def digests(entries: Mapping[str, bytes | Path]) -> dict[str, str]:
    """`sha256:…` of each entry."""
    return {
        name: digest_bytes(content if isinstance(content, bytes) else content.read_bytes())
        for name, content in sorted(entries.items())
    }


def unpack_model(archive: Path, into: Path, *, uncompressed: bool = False) -> Path:
    """The model folder of an archive, every byte of it checked, as the folder `into`.

    Args:
        archive: the `.mar`.
        into: the folder to make; what lies there whole already is taken.
        uncompressed: the model that was compressed, where a variant of it serves.

    Raises:
        BadInput: no archive of ours.
        Tampered: the archive does not hold together, or its model folder does not.
    """
    contents = read_contents(archive)
    fallback = contents.manifest.fallback if uncompressed else None
    place, digest = (FALLBACK, fallback.model) if fallback else (MODEL, contents.manifest.model)
    if into.is_dir():
        try:
            verify(into, digest)
            return into
        except FolderError:  # left by a killed process, or changed
            with explained(into):
                shutil.rmtree(into)
    with staging(into) as staged:
        with zipfile.ZipFile(archive) as zipped:
            for name in contents.manifest.files:
                if name.startswith(f"{place}/"):
                    path = staged / name.removeprefix(f"{place}/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(zipped.read(name))
        try:
            verify(staged, digest)
        except FolderError as error:
            raise Tampered(f"{archive}: {error.what}", do="package the model again") from None
    return into
