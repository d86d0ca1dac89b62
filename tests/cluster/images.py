"""Images for the node: archives in the OCI layout, made without Docker and kept by their content."""

import contextlib
import hashlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
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
    config = _json(
        {"architecture": ARCHITECTURE, "os": "linux", "config": {"Entrypoint": list(command)}, "rootfs": rootfs}
    )
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


BASE: Final = "localhost/modelyard-base:bookworm"
"""Debian with Python 3.11, as `python:3.11-slim-bookworm` has it."""
_INCLUDED: Final = "ca-certificates,python3,python3-venv"


def archives() -> Path:
    """Where archives of images are kept."""
    return build.cache().parent / "images"


def small(name: str, files: Mapping[str, Path], *, command: Sequence[str]) -> Path:
    """The archive of an image of a few files, written once."""
    sizes = [f"{place}:{source.resolve()}:{source.stat().st_size}" for place, source in sorted(files.items())]
    archive = archives() / f"{name.rpartition('/')[2].partition(':')[0]}-{_key(name, *sizes, *command)}.tar"
    if not archive.exists():
        archives().mkdir(parents=True, exist_ok=True)
        write_image(name, archive.with_suffix(".part"), files, command=command)
        _keep(archive)
    return archive


def buildah(*words: str | Path, log: Path | None = None) -> str:
    """Run buildah."""
    with contextlib.ExitStack() as opened:
        errors = opened.enter_context(log.open("ab")) if log else subprocess.PIPE
        done = subprocess.run(["buildah", *words], stdout=subprocess.PIPE, stderr=errors, check=False)
    if done.returncode != 0:
        raise build.NotBuilt(f"buildah {words[0]} failed: {(done.stderr or b'').decode()[-2000:]} {log or ''}")
    return done.stdout.decode().strip()


def base() -> str:
    """The base of all others, made from Debian's packages where it is not there."""
    known = subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False)
    if known.returncode == 0:
        return BASE
    archives().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archives(), prefix=".base-") as folder:
        root, log = Path(folder) / "root", archives() / "base.log"
        with log.open("wb") as out:
            done = subprocess.run(
                ["nice", "-n", "10", "debootstrap", "--variant=minbase", f"--include={_INCLUDED}", "bookworm", root],
                stdout=out, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        if done.returncode != 0:
            raise build.NotBuilt(f"debootstrap could not make the base image: read {log}")
        for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / waste, ignore_errors=True)
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, root, "/")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        buildah("config", "--env", f"PATH={path}", container)
        buildah("commit", "--quiet", "--rm", container, BASE)
    return BASE


ENVOY: Final = "modelyard.test/envoy:1"


def envoy() -> Path:
    """The archive of one image with Envoy, its shutdown manager and Envoy Gateway."""
    import envoy as packaged  # type: ignore[import-untyped]

    binary = Path(packaged.__path__[0]) / "_bin" / "envoy"
    gateway = build.place("envoy-gateway")
    archive = archives() / f"envoy-{_key(str(binary.stat().st_size), gateway.parent.name)}.tar"
    if not archive.exists():
        archives().mkdir(parents=True, exist_ok=True)
        container = buildah("from", "--pull-never", base())
        buildah("copy", "--quiet", "--chmod", "755", container, binary, gateway, "/usr/local/bin/")
        buildah("config", "--user", "65532:65532", "--cmd", "", "--entrypoint", '["envoy-gateway"]', container)
        buildah("commit", "--quiet", "--rm", container, f"localhost/{ENVOY}")
        _push(f"localhost/{ENVOY}", archive, ENVOY)
    return archive


MLFLOW: Final = "modelyard.test/mlflow:1"


def mlflow() -> Path:
    """The archive of an image with MLflow's server, from what is installed here: it need not be fetched again."""
    wanted = _with_requirements("mlflow", "boto3")
    names = sorted(f"{each.metadata['Name']}=={each.version}" for each in wanted)
    archive = archives() / f"mlflow-{_key(*names)}.tar"
    if archive.exists():
        return archive
    archives().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archives(), prefix=".mlflow-") as folder:
        for file in (file for each in wanted for file in each.files or ()):
            source = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                target = Path(folder) / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        container = buildah("from", "--pull-never", base())
        buildah("copy", "--quiet", container, folder, "/usr/local/lib/python3.11/dist-packages/")
        buildah("config", "--user", "10001:10001", "--cmd", "python3 -m mlflow server --help", container)
        buildah("commit", "--quiet", "--rm", container, f"localhost/{MLFLOW}")
    _push(f"localhost/{MLFLOW}", archive, MLFLOW)
    return archive


def _with_requirements(*names: str) -> list[metadata.Distribution]:
    """Distributions and what they require, as they are installed."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        with contextlib.suppress(metadata.PackageNotFoundError):  # for another platform or another Python
            found[name] = metadata.distribution(name)
            for line in found[name].requires or ():
                asked = Requirement(line)
                if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                    waiting.append(asked.name)
    return list(found.values())


def ours(name: str, *, tag: str, wheels: Path) -> Path:
    """The archive of one of the product's images, built by `images/build.py` where its inputs changed."""
    root = build.HERE.parents[1]
    mounted = [Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")]
    volumes = [word for file in mounted if file.exists() for word in ("-v", f"{file}:{file}:ro")]
    log = archives() / f"{name}.log"
    torch = ("--torch", "cpu", "--wheels", str(wheels)) if wheels.is_dir() else ()
    words = [
        "nice", "-n", "10", sys.executable, "images/build.py", name, "--builder", "buildah", "--tag", tag,
        "--base", base(), *torch,
        "--", "--isolation", "chroot", "--pull-never", "--network", "host", *volumes,
    ]  # fmt: skip
    with log.open("wb") as out:
        done = subprocess.run(words, cwd=root, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise build.NotBuilt(f"image {name} could not be built: {log.read_text()[-3000:]}")
    image = f"modelyard/{name}:{tag}"
    known = json.loads(buildah("inspect", "--type", "image", image))["FromImageID"]
    archive = archives() / f"{name}-{known[:16]}.tar"
    if not archive.exists():
        _push(image, archive, f"docker.io/{image}", forget=False)
    return archive


def _push(image: str, archive: Path, name: str, *, forget: bool = True) -> None:
    """Write an image of buildah's store to an archive of Docker's form: its layers are not packed, which takes long."""
    part = archive.with_suffix(".part")
    part.unlink(missing_ok=True)
    buildah("push", "--quiet", image, f"docker-archive:{part}:{name}")
    if forget:
        buildah("rmi", image)
    _keep(archive)


def _keep(archive: Path) -> None:
    """The archive is whole; others of that name are older."""
    archive.with_suffix(".part").rename(archive)
    for other in archives().glob(f"{archive.name.rpartition('-')[0]}-*.tar"):
        if other != archive and len(other.name) == len(archive.name):
            other.unlink()


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
