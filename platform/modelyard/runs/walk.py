"""One step of a run: take the result that is there, or make it and keep it."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from modelyard.runs.journal import Journal, RunRecord, StageEntry
from modelyard.runs.stages import Stage, stage_key
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import write_text
from modelyard.verdict import Verdict

T = TypeVar("T")


class Observer(Protocol):
    """Who watches a run."""

    def on_event(self, stage: str, state: str, message: str, fraction: float | None) -> None:
        """`state` is one of started, progress, cached, done, refused; `fraction` of the stage, when known."""


class Silent:
    """Nobody watches."""

    def on_event(self, stage: str, state: str, message: str, fraction: float | None) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Result(Generic[T]):
    """What a stage made, where it lies, and whether it was there already."""

    value: T
    folder: Path
    key: str
    cached: bool


class UntilReached(Exception):
    """The stage named by `--until` is done."""


class Walk:
    """Walks one run from stage to stage and keeps its record on disk."""

    def __init__(
        self,
        *,
        state: Path,
        journal: Journal,
        run: RunRecord,
        observer: Observer,
        first: Stage | None,
        until: Stage | None,
    ) -> None:
        self.state = state
        self.run = run
        self._journal = journal
        self._observer = observer
        self._first = first
        self.until = until
        self._made: set[str] = set()

    @property
    def registered_before(self) -> bool:
        """Whether a run of this project has registered a version."""
        return any(run.version for run in self._journal.all())

    def say(self, stage: Stage, message: str, fraction: float | None = None) -> None:
        """Report progress within a stage."""
        self._observer.on_event(stage, "progress", message, fraction)

    def progress(self, stage: Stage) -> Callable[[str, float | None], None]:
        """What a stage's function takes as `progress`."""

        def told(message: str, fraction: float | None = None) -> None:
            self.say(stage, message, fraction)

        return told

    def keep(self, **changes: Any) -> None:
        """Write down what changed about the run as a whole."""
        self.run = self._journal.keep(replace(self.run, **changes))

    def begin(self, stage: Stage) -> float:
        """Say that a stage begins; gives the time to hand to `note`."""
        self._observer.on_event(stage, "started", "", None)
        return time.monotonic()

    def result(
        self,
        stage: Stage,
        cls: type[T],
        settings: Mapping[str, Any],
        act: Callable[[Path], T],
        *,
        resumable: bool = False,
    ) -> "Result[T]":
        """The stage's result, made by `act(folder)` unless it is there whole.

        A folder counts as whole when `done.json`, written last, lists just the files that are there. One that
        is not is begun anew; with `resumable`, `act` finds what its killed forerunner left.
        """
        key = stage_key(stage, settings)
        out = self.state / "stages" / stage / key
        forced = self._first is not None and stage.place >= self._first.place and key not in self._made
        cached = not forced and is_whole(out)
        if cached:
            value = from_json(cls, (out / "result.json").read_text(), where=str(out / "result.json"))
        else:
            if forced or (out / "done.json").exists() or not resumable:
                shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True, exist_ok=True)
            value = act(out)
            write_text(out / "result.json", to_json(value))
            write_listing(out)
            self._made.add(key)
        return Result(value=value, folder=out, key=key, cached=cached)

    def note(
        self,
        stage: Stage,
        *,
        began: float,
        message: str,
        result: "Result[Any] | None" = None,
        verdict: Verdict | None = None,
        more: "Mapping[str, Result[Any]] | None" = None,
    ) -> None:
        """Write down that a stage is done; end the walk if it is the last one asked for."""
        entry = StageEntry(
            stage=stage,
            key=result.key if result else "",
            folder=str(result.folder.relative_to(self.state)) if result else "",
            cached=result is not None and result.cached,
            seconds=round(time.monotonic() - began, 3),
            message=message,
            verdict=verdict,
            more={name: str(made.folder.relative_to(self.state)) for name, made in (more or {}).items()},
        )
        self.run = self._journal.keep(self.run.with_stage(entry))
        said_no = verdict is not None and not verdict.lets_through
        self._observer.on_event(stage, "refused" if said_no else "cached" if entry.cached else "done", message, 1.0)
        if stage == self.until and not said_no:
            raise UntilReached


def is_whole(folder: Path) -> bool:
    """Whether a stage's folder holds just the files that it had when it was done."""
    try:
        listed = json.loads((folder / "done.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(listed == _listing(folder))


def write_listing(folder: Path) -> None:
    """Say that a stage's folder is whole as it is now."""
    write_text(folder / "done.json", json.dumps(_listing(folder)))


def _listing(folder: Path) -> dict[str, int]:
    """Size in bytes by relative path. Contents are verified by digest where they are loaded."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "done.json" and "__pycache__" not in path.parts
    }
