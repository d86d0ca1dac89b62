"""What a run did, kept on disk as it happens: `runs/<id>/run.json`."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.runs.stages import Stage
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.project import ModelProject
from modelyard.storage.atomic import write_text
from modelyard.verdict import Verdict


class RunState(StrEnum):
    """What a run came to."""

    RUNNING = "Running"
    """Or killed while it was running, until the next command sees that (`Journal.now`)."""
    SUCCEEDED = "Succeeded"
    REFUSED = "Refused"
    """A gate or the live analysis said no."""
    INCONCLUSIVE = "Inconclusive"
    FAILED = "Failed"
    STOPPED = "Stopped"
    """By a person or a signal."""


@record
class StageEntry:
    """One stage of one run."""

    stage: Stage
    key: str = ""
    folder: str = ""
    """Where its result lies, relative to the state folder."""
    cached: bool = False
    seconds: float = 0.0
    message: str = ""
    verdict: Verdict | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    """Further results: what → folder, relative to the state folder."""


@record
class RunRecord:
    """One run."""

    id: str
    started_at: float
    project: ModelProject
    code_digest: str = ""
    state: RunState = RunState.RUNNING
    message: str = ""
    ended_at: float | None = None
    stages: tuple[StageEntry, ...] = ()
    version: str | None = None
    digest: str | None = None
    rollout: str | None = None
    """Name of the ModelRollout that brought the version in."""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def with_stage(self, entry: StageEntry) -> "RunRecord":
        """A copy in which `entry` is the last word on its stage."""
        others = tuple(e for e in self.stages if e.stage != entry.stage)
        return replace(self, stages=(*others, entry))

    def entry(self, stage: Stage) -> StageEntry | None:
        """What is known of a stage."""
        return next((e for e in self.stages if e.stage == stage), None)


UNSAID = "ended before it could say why (killed, or no space was left to write it down); run again to go on"


class Journal:
    """The runs of one project, newest last by name."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "runs"

    def begin(self, project: ModelProject, code_digest: str) -> RunRecord:
        """A new run, named by its time."""
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
        taken = {path.parent.name for path in self._folder.glob("*/run.json")}
        name = next(n for i in range(1, 1000) if (n := stamp if i == 1 else f"{stamp}-{i}") not in taken)
        return self.keep(RunRecord(id=name, started_at=now, project=project, code_digest=code_digest))

    def keep(self, run: RunRecord) -> RunRecord:
        """Write a run down."""
        path = self._folder / run.id / "run.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, to_json(run))
        return run

    def all(self) -> tuple[RunRecord, ...]:
        """Every run that can be read, oldest first. One of another Modelyard, or damaged, is no reason to stop."""
        found = []
        for path in sorted(self._folder.glob("*/run.json")):
            with suppress(BadInput):
                found.append(self.get(path.parent.name))
        return tuple(found)

    def get(self, name: str) -> RunRecord:
        """One run.

        Raises:
            BadInput: there is none of that name.
        """
        path = self._folder / name / "run.json"
        if not path.is_file():
            known = ", ".join(sorted(p.parent.name for p in self._folder.glob("*/run.json"))[-5:]) or "none yet"
            raise BadInput(f"there is no run {name!r} (the last ones: {known})", do="name one of those")
        return from_json(RunRecord, path.read_text(), where=str(path))

    def now(self, run: RunRecord, *, alive: bool) -> RunRecord:
        """A run as it is now: one that is Running while no run is alive ended without a word."""
        if alive or run.state is not RunState.RUNNING:
            return run
        written = (self._folder / run.id / "run.json").stat().st_mtime
        return replace(run, state=RunState.FAILED, message=UNSAID, ended_at=written)

    def settle(self) -> None:
        """Write down the end of runs that could not do so themselves; only while no other run is alive."""
        for run in self.all():
            if (now := self.now(run, alive=False)) != run:
                self.keep(now)

    def folder(self, run: RunRecord) -> Path:
        """Where a run keeps its record and report."""
        return self._folder / run.id


def summary(run: RunRecord) -> Mapping[str, Any]:
    """A run in one row."""
    return {
        "run": run.id,
        "state": run.state,
        "version": run.version,
        "seconds": round((run.ended_at or time.time()) - run.started_at, 1),
        "metrics": dict(run.metrics),
        "message": run.message,
    }
