"""One step of a pipeline: a walk of one stage, whose state folder is made of the artifacts that the step was given.

An artifact is the folder of a stage's result as a run on a laptop has it; its metadata says which,
`stages/<stage>/<key>`. A step links its inputs there, lets the stage's own function work, and gives the folder that
appeared. So keys, files and digests are those of `modelyard run`, and there is one orchestration, `modelyard.runs`.
"""

import json
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from modelyard.errors import BadInput, Unavailable
from modelyard.runs.journal import Journal, RunRecord, StageEntry
from modelyard.runs.stages import Stage
from modelyard.runs.walk import Result, Walk, is_whole, write_listing
from modelyard.spec.codec import from_data, from_json, to_data
from modelyard.spec.project import ModelProject
from modelyard.storage.code import CodeArchive
from modelyard_pipelines import wiring
from modelyard_pipelines.tracking import TOLD, StepRun

if TYPE_CHECKING:
    from modelyard.runs.run import Way

T = TypeVar("T")
_LEFT_OUT = ("checkpoints", "code")
"""Of a training: what is only there to go on from."""


class Artifact(Protocol):
    """What a step uses of Kubeflow's artifacts."""

    path: str
    uri: str
    metadata: dict[str, Any]


@dataclass(kw_only=True)
class Step:
    """What a component's body works with."""

    walk: Walk
    project: ModelProject
    code: CodeArchive
    store: str
    """Where code archives are; empty where the step was not told."""
    tracked: StepRun

    @property
    def way(self) -> "Way":
        """The stages' functions over this step's state."""
        from modelyard.runs.release import Services  # noqa: PLC0415 - imports torch, as does the next
        from modelyard.runs.run import Way  # noqa: PLC0415
        from modelyard.training.job import Tracking  # noqa: PLC0415

        def tracking() -> Tracking | None:
            uri, name = os.environ.get("MLFLOW_TRACKING_URI"), self.project.metadata.name
            return Tracking(uri=uri, experiment=name, run_id=self.tracked.id) if uri and self.tracked.id else None

        services = Services(registry=wiring.registry, records=wiring.records, tracking=tracking, alive=lambda: True)
        return Way(walk=self.walk, project=self.project, base=Path("/"), code=self.code, services=services)

    def take(self, artifact: Artifact, cls: type[T]) -> Result[T]:
        """An input, put where its stage would have left it.

        Raises:
            Unavailable: a cache hit on an artifact that was deleted, in whole or in part (kubeflow/pipelines #7939).
        """
        place = str(artifact.metadata.get("place", ""))
        if not place:
            raise BadInput(f"{artifact.uri} was not made by a step of ours", do="run the pipeline from its first step")
        there, folder = Path(artifact.path), self.walk.state / place
        if not is_whole(there):
            raise Unavailable(
                f"the artifact {artifact.uri} was deleted, or lacks files, since a cached step named it",
                do="run again without the cache: modelyard pipeline run --no-cache",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            folder.symlink_to(there.resolve())
        if entry := artifact.metadata.get("entry"):
            known = from_data(StageEntry, entry, where=artifact.uri)
            mine = artifact.metadata.get("job") == self.walk.run.id
            self.walk.run = self.walk.run.with_stage(replace(known, cached=known.cached or not mine))
        value = from_json(cls, (folder / "result.json").read_text(), where=str(folder / "result.json"))
        return Result(value=value, folder=folder, key=folder.name, cached=True)

    def give(self, artifact: Artifact, stage: Stage, *, more: str = "", **known: Any) -> None:
        """Hand on what a stage made: its result, or a further one by its name in the stage's entry."""
        entry = self.entry(stage)
        place = entry.more[more] if more else entry.folder
        made, final = self.walk.state / place, Path(artifact.path)
        if final.is_dir() and any(final.iterdir()):
            raise BadInput(f"{final} holds another result", do="give each iteration of a loop a place of its own")
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, final, ignore=_ignored(made), copy_function=_linked, dirs_exist_ok=True)
        write_listing(final)
        artifact.metadata.update({"place": place, "job": self.walk.run.id, "message": entry.message, **known})
        if self.tracked.page:
            artifact.metadata["mlflow_run"] = self.tracked.page
        if not more:
            artifact.metadata["entry"] = to_data(entry)

    def entry(self, stage: Stage) -> StageEntry:
        """What the run's record says of a stage that is done."""
        found = self.walk.run.entry(stage)
        assert found is not None, stage
        return found

    def page(self, artifact: Artifact, *stages: Stage) -> None:
        """Write an HTML artifact: the report's sections on these stages; all without."""
        from modelyard.reports.html import render  # noqa: PLC0415 - imports matplotlib
        from modelyard.runs.report import view_of  # noqa: PLC0415

        view = view_of(self.walk.state, self.walk.run)
        Path(artifact.path).write_text(render(view, only=stages, of=_of(stages)), "utf-8")

    def words(self, artifact: Artifact, *stages: Stage) -> None:
        """Write a Markdown artifact: the same, in words."""
        from modelyard.reports.markdown import render_markdown  # noqa: PLC0415
        from modelyard.runs.report import view_of  # noqa: PLC0415

        view = view_of(self.walk.state, self.walk.run)
        Path(artifact.path).write_text(render_markdown(view, only=stages, of=_of(stages)), "utf-8")


@contextmanager
def step(name: str, project: ModelProject, *, code: str = "", store: str = "") -> Iterator[Step]:
    """A step's state folder, its run in MLflow, and the archive of the user's code where it is needed.

    Args:
        name: the step's name; that of its stage.
        project: the sections that it was given.
        code: digest of the code archive.
        store: where that lies; not fetched without.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Kubeflow's executor sets INFO: a line for each request
    _end_orderly()
    tracked = StepRun(wiring.runs(project.metadata.name), wiring.job(), name)
    with _state(name, project) as state:
        tracked.begin()
        began = RunRecord(id=wiring.job(), started_at=time.time(), project=project, code_digest=code)
        walk = Walk(state=state, journal=_Unwritten(state), run=began, observer=_Log(), first=None, until=None)
        try:
            archive = wiring.fetch_code(code, store, state / "code") if store else CodeArchive(digest=code, path=state)
            yield Step(walk=walk, project=project, code=archive, store=store, tracked=tracked)
        except BaseException as error:
            tracked.log(tags={"modelyard.error": _said_of(error, name), TOLD: _told(walk)})
            tracked.end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        tracked.log(tags={TOLD: _told(walk)}, metrics=walk.run.metrics)
        tracked.end("FINISHED")


def _told(walk: Walk) -> str:
    """What is known of each stage, as JSON."""
    return json.dumps([to_data(replace(entry, more={})) for entry in walk.run.stages])


def _said_of(error: BaseException, name: str) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"{name} was told to stop"
    return str(error) or type(error).__name__


def _end_orderly() -> None:
    """Let a cancelled step end as Ctrl-C ends a command: with its job deleted and its run closed."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def _state(name: str, project: ModelProject) -> Iterator[Path]:
    """A folder for a step: one that goes with it, or, for a training, on a volume where its next try finds it."""
    kept = os.environ.get("MODELYARD_WORK", "") if name == Stage.TRAIN else ""
    if kept:
        from modelyard.runs.lock import exclusive  # noqa: PLC0415 - imports what starts processes

        state = Path(kept) / project.metadata.name / name
        with exclusive(state / "lock", what=f"pipeline run {wiring.job()}"):
            yield state
        return
    with tempfile.TemporaryDirectory(prefix="modelyard-") as made:
        state = Path(made)
        if key := os.environ.get("MODELYARD_SIGNING_KEY_FILE"):
            from modelyard.packaging.signing import SIGNING_KEY  # noqa: PLC0415 - imports cryptography

            if not Path(key).is_file():
                raise BadInput(
                    f"MODELYARD_SIGNING_KEY_FILE: there is no {key}", do="mount the Secret: pipeline.secrets"
                )
            (state / SIGNING_KEY).parent.mkdir(parents=True)
            (state / SIGNING_KEY).symlink_to(Path(key).resolve())
        yield state


class _Unwritten(Journal):
    """A run's record is in MLflow and in its artifacts; a file would go with the pod."""

    def keep(self, run: RunRecord) -> RunRecord:
        """Give it back."""
        return run


class _Log:
    """The step's log: a line for each new message."""

    def __init__(self) -> None:
        self._last = ""

    def on_event(self, stage: str, state: str, message: str, fraction: float | None) -> None:  # noqa: ARG002
        """Print what is new."""
        told = f"{stage} {state}{f': {message}' if message else ''}"
        if told != self._last:
            print(told, flush=True)
            self._last = told


def _of(stages: Sequence[Stage]) -> str:
    """The stage whose page it is, where it is of one."""
    return stages[0] if len(stages) == 1 else ""


def _ignored(top: Path) -> Any:
    return lambda folder, names: {n for n in names if Path(folder) == top and n in _LEFT_OUT} | {"__pycache__"}


def _linked(source: str, target: str) -> str:
    """A hard link where both lie on one disk: nothing writes to a result once it is done."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
    return target
