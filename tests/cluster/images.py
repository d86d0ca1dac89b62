"""Images for the node: archives in the OCI layout, made without Docker and kept by their content."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.cluster import build

ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"


def load(archive: Path) -> None:
    """Import an archive into the running node."""
    from tests.cluster.machine import home

    subprocess.run(
        [build.place("ctr"), "--address", home() / "containerd.sock", "--namespace", "k8s.io",
         "images", "import", "--digests", archive],
        check=True, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def write_image(name: str, archive: Path, files: Mapping[str, Path], *, command: Sequence[str]) -> None:
    """Write an image of one layer: a few files at its root, and nothing else.

    https://github.com/opencontainers/image-spec/blob/main/image-layout.md
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as layer:
        for place, source in sorted(files.items()):
            layer.add(source, arcname=place, filter=_plain)
    layer_bytes = packed.getvalue()
    rootfs = {"type": "layers", "diff_ids": [_digest(layer_bytes)]}
    config = _json({"architecture": ARCHITECTURE, "os": "linux", "config": {"Cmd": list(command)}, "rootfs": rootfs})
    manifest = _json({
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer_bytes)],
    })  # fmt: skip
    named = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = _json({"schemaVersion": 2, "manifests": [{**_descriptor(_MANIFEST, manifest), "annotations": named}]})
    with tarfile.open(archive, "w") as out:
        _add(out, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(out, "index.json", index)
        for blob in (layer_bytes, config, manifest):
            _add(out, f"blobs/sha256/{_digest(blob).partition(':')[2]}", blob)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755
    return entry


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content).encode()


def _descriptor(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    out.addfile(entry, io.BytesIO(data))
