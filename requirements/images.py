"""Cut the lock into what each image installs: `images/<name>/requirements.txt`, hashes and all, without torch.

What an image needs is one extra of `pyproject.toml` with all that stands below it, as the installed packages say; so
this asks no index. Torch itself comes from `torch-cpu.txt` or `torch-cuda.txt`, by a build argument.

Usage: ``python requirements/images.py``
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
IMAGES = {"operator": "operator", "serving": "serving", "training": "train", "pipelines": "pipelines"}
"""Image → extra."""
BUILD = ("hatchling",)
"""Builds our own wheel, in the stage that is thrown away."""
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}


def entries() -> dict[str, str]:
    """The lock: name → its lines."""
    lock = (HERE / "lock.txt").read_text()
    found = re.findall(r"^\S.*(?:\n    .*)*\n", lock, flags=re.MULTILINE)
    return {canonicalize_name(entry.partition("==")[0]): entry for entry in found}


def extra(name: str) -> Iterator[Requirement]:
    """What this distribution with that extra asks for."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    own: Mapping[str, list[str]] = project["optional-dependencies"]
    for line in (*project["dependencies"], *own[name]):
        wanted = Requirement(line)
        if wanted.name != project["name"]:
            yield wanted
            continue
        for other in sorted(wanted.extras):
            yield from extra(other)


def closure(roots: Iterator[Requirement]) -> set[str]:
    """Names of the roots and of all below them, on Linux."""
    todo, seen = [(each.name, frozenset(each.extras)) for each in roots], set[tuple[str, frozenset[str]]]()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for line in distribution(name).requires or ():
            wanted = Requirement(line)
            marker = wanted.marker
            chosen = marker is None or any(marker.evaluate({**LINUX, "extra": one}) for one in extras or {""})
            if chosen:
                todo.append((wanted.name, frozenset(wanted.extras)))
    return {canonicalize_name(name) for name, _ in seen}


def subsets() -> dict[str, str]:
    """File → content."""
    lock = entries()

    def cut(roots: Iterator[Requirement]) -> str:
        return "".join(lock[name] for name in sorted(closure(roots)) if name in lock)

    made = {f"images/{image}/requirements.txt": cut(extra(name)) for image, name in IMAGES.items()}
    return {**made, "images/build.txt": cut(Requirement(name) for name in BUILD)}


def main() -> None:
    for name, content in subsets().items():
        (HERE.parent / name).write_text(content)
        print(f"{name}: {content.count('==')} packages")


if __name__ == "__main__":
    main()
