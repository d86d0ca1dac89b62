"""A project in Python, for notebooks and for every shell: `Project.load(path).run()`."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.errors import BadInput, ModelyardError
from modelyard.rollout.analysis import check
from modelyard.runs.journal import Journal, RunRecord, RunState, summary
from modelyard.runs.lock import exclusive, is_held
from modelyard.runs.named import check_named
from modelyard.runs.services import LaptopServices, RemoteServices, check_port
from modelyard.runs.stages import ON_THE_ROUTE, Stage, stage_named
from modelyard.runs.walk import Observer, Silent, UntilReached, Walk
from modelyard.serving.java import java
from modelyard.spec.parse import parse_project
from modelyard.spec.problem import did_you_mean
from modelyard.spec.project import ModelProject
from modelyard.storage.atomic import explained, sweep, write_text
from modelyard.storage.code import CodeArchive, pack
from modelyard.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from modelyard.registry.port import Registry
    from modelyard.training.job import TrainedModel

EXIT_CODES = {
    RunState.SUCCEEDED: 0,
    RunState.FAILED: 1,
    RunState.REFUSED: 3,
    RunState.INCONCLUSIVE: 4,
    RunState.STOPPED: 130,
}


class Project:
    """A folder with a `modelyard.yaml`, and its state in `.modelyard/`."""

    def __init__(self, folder: Path, spec: ModelProject, file: Path) -> None:
        self.folder = folder
        self.spec = spec
        self._file = file
        self.state = folder / ".modelyard"
        self.home = self.state / "yard"
        self.journal = Journal(self.state)

    @classmethod
    def load(cls, path: str | Path = ".", *, set: Mapping[str, Any] | None = None) -> "Project":  # noqa: A002
        """Read a project from its folder or its file.

        Args:
            path: the folder of `modelyard.yaml`, or the file.
            set: fields to change, by path: `{"train.epochs": 3}`.

        Raises:
            BadSpec: the file cannot be used; the message names line and column.
            BadInput: there is no file, or a margin is finer than the router can measure.
        """
        file = Path(path)
        file = file / "modelyard.yaml" if file.is_dir() else file
        spec = parse_project(file, overrides=_texts(set))
        check(spec.deployment.analysis, steps=spec.deployment.strategy.canary.steps)
        return cls(file.parent.resolve(), spec, file)

    def run(
        self,
        *,
        until: str | Stage | None = None,
        from_: str | Stage | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002
        observer: Observer | None = None,
        trainer: "Callable[..., TrainedModel] | None" = None,
        tracking_uri: str | None = None,
    ) -> "Run":
        """Take the model from data to live traffic, or as far as `until`.

        Stages whose inputs did not change are taken from disk. From stage `gate` on, MLflow, the router and the
        rollout loop are needed: they are started in the background if they are not up (`modelyard down` stops them).

        Args:
            until: the last stage to run.
            from_: the first stage that is run again although its result is there.
            set: fields to change for this run alone, by path.
            observer: is told what happens.
            trainer: what trains instead of `modelyard.training.train.train`, with its arguments: a cluster.
            tracking_uri: an MLflow server that others share, instead of the laptop's. The run ends with stage
                `promote`: a cluster's operator brings in what the alias names.

        Returns:
            The run, also when a gate said no: see `Run.state` and `Run.verdict`.

        Raises:
            ModelyardError: bad input, or a stage could not do its work. The run's record says so too.
        """
        project = Project.load(self._file, set=set) if set else self
        check_named(project.spec, project.folder)  # a missing recipe is said before hours of preparation, not after
        first = stage_named(from_) if from_ else None
        last = stage_named(until) if until else None
        if first and last and first.place > last.place:
            raise BadInput(f"stage {first} comes after {last}", do="let --from name an earlier stage than --until")
        remote = RemoteServices(tracking_uri, project.spec) if tracking_uri else None
        last = _until_promoted(last) if remote else last
        if last is None or last.place >= Stage.PACKAGE.place:
            java()  # known to be missing before hours of training, not after
        if remote is None and (last is None or last.place >= Stage.PROMOTE.place):
            check_port(project.home, project.spec)
        with exclusive(self.state / "lock", what="modelyard run"):
            for kept in ("runs", "stages", "code", "work", "champions"):
                sweep(self.state / kept)
            self.journal.settle()
            code = pack(project.folder / project.spec.code.path, self.state / "code")
            run = self.journal.begin(project.spec, code.digest)
            walk = Walk(
                state=self.state,
                journal=self.journal,
                run=run,
                observer=observer or Silent(),
                first=first,
                until=last,
            )
            return project._walked(walk, code, trainer, remote)

    def _walked(
        self,
        walk: Walk,
        code: CodeArchive,
        trainer: "Callable[..., TrainedModel] | None",
        remote: RemoteServices | None,
    ) -> "Run":
        from modelyard.runs.release import Refused, Services  # noqa: PLC0415 - imports torch, as does the next
        from modelyard.runs.run import Way  # noqa: PLC0415

        asked: LaptopServices | RemoteServices | None = remote
        try:
            with explained(self.state):
                asked = remote or self._laptop(walk)
                services = Services(
                    registry=asked.registry, records=asked.records, tracking=asked.tracking, alive=asked.alive,
                    own=not remote,
                )  # fmt: skip
                way = Way(walk=walk, project=self.spec, base=self.folder, code=code, services=services)
                (replace(way, trainer=trainer) if trainer else way).to_live_traffic()
        except UntilReached:
            pass
        except Refused as refused:
            failed = refused.verdict.outcome == Outcome.FAILED
            walk.keep(
                state=RunState.REFUSED if failed else RunState.INCONCLUSIVE,
                message=refused.verdict.message,
                ended_at=time.time(),
            )
            return Run(self, walk.run)
        except KeyboardInterrupt:
            if asked is not None:
                asked.give_up()
            walk.keep(state=RunState.STOPPED, message="stopped; run again to go on", ended_at=time.time())
            raise
        except Exception as error:
            told = str(error) if isinstance(error, ModelyardError) else f"not foreseen: {error!r}"
            with suppress(ModelyardError):  # where no space is left, the record cannot say so either
                walk.keep(state=RunState.FAILED, message=told, ended_at=time.time())
            raise
        walk.keep(state=RunState.SUCCEEDED, ended_at=time.time())
        return Run(self, walk.run)

    def _laptop(self, walk: Walk) -> LaptopServices:
        needed = walk.until is None or walk.until.place >= ON_THE_ROUTE.place
        return LaptopServices(self.home, self.spec, needed=needed, say=lambda told: walk.say(Stage.PREPARE, told))

    @cached_property
    def registry(self) -> "Registry":
        """The project's model registry; started in the background if it is not up."""
        return LaptopServices(self.home, self.spec, needed=True, say=lambda _: None).registry()

    def runs(self) -> tuple["Run", ...]:
        """All runs, oldest first."""
        alive = is_held(self.state / "lock")
        return tuple(Run(self, self.journal.now(record, alive=alive)) for record in self.journal.all())

    def get_run(self, name: str | None = None) -> "Run":
        """A run by its id; the newest one without.

        Raises:
            BadInput: there is none.
        """
        if name:
            alive = is_held(self.state / "lock")
            return Run(self, self.journal.now(self.journal.get(name), alive=alive))
        runs = self.runs()
        if not runs:
            raise BadInput(f"{self.folder} has no run yet", do="start one: modelyard run")
        return runs[-1]


class Metrics(dict[str, float]):
    """Values by name; a name that is not there is answered with the nearest one that is."""

    def __missing__(self, name: str) -> float:
        raise KeyError(f"no metric {name!r}; {did_you_mean(name, self)}")


class Run:
    """One run, done or stopped: what came of it, its metrics, its report."""

    def __init__(self, project: Project, record: RunRecord) -> None:
        self._project = project
        self.record = record

    @property
    def id(self) -> str:
        """Name of the run: its time."""
        return self.record.id

    @property
    def state(self) -> RunState:
        """What it came to."""
        return self.record.state

    @property
    def metrics(self) -> Mapping[str, float]:
        """The test split's metrics of the model that would serve (or, before `compress`, of the trained one)."""
        return Metrics(self.record.metrics)

    @property
    def version(self) -> str | None:
        """The registered version."""
        return self.record.version

    @property
    def verdict(self) -> Verdict | None:
        """The last verdict that was given."""
        given = [entry.verdict for entry in self.record.stages if entry.verdict]
        return given[-1] if given else None

    @property
    def exit_code(self) -> int:
        """As the command ends: 0 done, 1 failed, 3 a gate said no, 4 inconclusive, 130 stopped."""
        return EXIT_CODES.get(self.record.state, 1)

    def summary(self) -> Mapping[str, Any]:
        """The run in one row."""
        return summary(self.record)

    def report(self, to: Path | None = None) -> Path:
        """Write the run's report, one self-contained HTML file.

        Returns:
            The file: `to`, or `report.html` in the run's folder.
        """
        from modelyard.runs.report import run_html  # noqa: PLC0415 - imports matplotlib

        path = to or self._project.journal.folder(self.record) / "report.html"
        write_text(path, run_html(self._project.state, self.record))
        return path

    def _repr_html_(self) -> str:
        """The report, inline in a notebook."""
        from html import escape  # noqa: PLC0415

        from modelyard.runs.report import run_html  # noqa: PLC0415

        page = escape(run_html(self._project.state, self.record), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:900px;border:0"></iframe>'

    def __repr__(self) -> str:
        return f"Run({self.id}, {self.state}, version={self.version}, metrics={dict(self.metrics)})"


def _until_promoted(last: Stage | None) -> Stage:
    """The last stage of a run whose version is rolled out elsewhere."""
    if last is not None and last.place > Stage.PROMOTE.place:
        raise BadInput(
            f"stage {last} is not this run's where --tracking-uri names a registry that others share",
            do="let --until name an earlier stage; `modelyard status --context` shows what the cluster does",
        )
    return last or Stage.PROMOTE


def _texts(values: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Values as the command line would give them: YAML."""
    return {path: value if isinstance(value, str) else json.dumps(value) for path, value in (values or {}).items()}
