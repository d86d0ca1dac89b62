"""What may be removed from a project's state: results that no kept run names, archives that no record names."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.runs.lock import exclusive
from modelyard.spec.codec import to_json
from modelyard_cli import wiring

if TYPE_CHECKING:
    from modelyard.project import Project


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """Something that nothing names."""

    path: Path
    what: str
    bytes: int

    def row(self) -> dict[str, Any]:
        """As it is printed."""
        return {"what": self.what, "path": str(self.path), "MB": round(self.bytes / 1e6, 3)}


def collect(project: "Project", *, keep: int, dry_run: bool) -> list[Garbage]:
    """Remove what the last `keep` runs and the records of deployments do not name.

    Raises:
        Busy: a run is on its way in this project.
    """
    with exclusive(project.state / "lock", what="modelyard gc"):
        orphans = dict(_orphans(project))
        found = [*_unnamed(project, keep), *orphans.values()]
        if not dry_run:
            for model_id in orphans:
                wiring.registry(project.home).forget(model_id)
            for one in found:
                shutil.rmtree(one.path, ignore_errors=True) if one.path.is_dir() else one.path.unlink(missing_ok=True)
    return found


def _orphans(project: "Project") -> Iterator[tuple[str, Garbage]]:
    """Models that a killed registration left in MLflow, where that is up: nobody starts it to tidy."""
    if wiring.running(project.home) is None:
        return
    for model_id in wiring.registry(project.home).orphans():
        path = next(project.home.glob(f"artifacts/*/models/{model_id}"), project.home / "artifacts" / model_id)
        yield model_id, _garbage(path, "model of a registration that was killed")


def _unnamed(project: "Project", keep: int) -> Iterator[Garbage]:
    kept = [run.record for run in project.runs()[-keep:]]
    folders = {entry.folder for run in kept for entry in run.stages if entry.folder}
    # A stage may have made further results (the champion's evaluation, the second gate): all that is as young as
    # the kept runs stays too.
    oldest = min((run.started_at for run in kept), default=0.0)
    for path in sorted(project.state.glob("stages/*/*")):
        if str(path.relative_to(project.state)) not in folders and path.stat().st_mtime < oldest:
            yield _garbage(path, f"result of {path.parent.name}")
    for path in sorted((*project.state.glob("work/*/*"), *project.state.glob("champions/*"))):
        if path.stat().st_mtime < oldest:
            yield _garbage(path, f"unpacked in {path.parent.name}")
    codes = {run.code_digest.removeprefix("sha256:") for run in kept}
    for path in sorted(project.state.glob("code/*.tar")):
        if path.stem not in codes:
            yield _garbage(path, "code archive")
    records = _records_text(project)
    for path in sorted((project.home / "archives").glob("*")):
        if path.name.partition(".")[0] not in records:
            yield _garbage(path, "model archive")


def _records_text(project: "Project") -> str:
    """All records as one text: a digest that occurs in none of them is named by none."""
    kept = wiring.records(project.home)
    texts = []
    for key in kept.keys():  # noqa: SIM118 - a port's verb
        wish = kept.deployment(key)
        texts += [to_json(one) for one in ((wish,) if wish else ())]
        texts += [to_json(one) for one in kept.rollouts(key)]
    return "".join(texts)


def _garbage(path: Path, what: str) -> Garbage:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return Garbage(path=path, what=what, bytes=sum(one.stat().st_size for one in files))
