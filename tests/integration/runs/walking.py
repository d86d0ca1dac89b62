"""A run in a process of its own, which is ended at a chosen event; and what it came to.

Processes are forked from one that has imported everything, so that a test may end dozens of them.
"""

import contextlib
import json
import multiprocessing
import os
import re
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from modelyard.processes import wait_until
from modelyard.runs.journal import Journal, RunRecord

PROJECT = """
kind: ModelProject
metadata: {name: small}
data:
  source: rows.csv
  labels: {column: label}
  splits: {train: 0.5, validation: 0.2, test: 0.3, stratify: label, seed: 7}
train:
  recipe: {use: "recipe.py:Recipe"}
  optimizer: {name: adamw, lr: 0.05}
  epochs: 2
  batchSize: 8
  checkpointEvery: 4
gates:
- {metric: accuracy, atLeast: 0.1}
compress: {variants: [torchscript]}
promote: automatic
"""
RECIPE = '''
from torch import nn


class Recipe:
    """Three numbers, three classes."""

    def model(self):
        return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch["label"])
'''
MARK = "MODELYARD_TEST_FAMILY"
LONGEST_S = 180.0

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["modelyard.runs.run", "modelyard.registry.mlflow", "modelyard_cli.progress", "mlflow"])


def small_project(folder: Path, *, text: str = PROJECT) -> Path:
    """A project of 120 rows that trains in a second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modelyard.yaml").write_text(text)
    (folder / "recipe.py").write_text(RECIPE)
    # Each row is its class's corner, moved a little: no two are equal.
    rows = [
        f"{i % 3 == 0:d}.{i:03},{i % 3 == 1:d}.{i * 7:03},{i % 3 == 2:d}.{i * 3:03},{'xyz'[i % 3]}" for i in range(120)
    ]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,label", *rows]) + "\n")
    return folder


Event = tuple[str, str, str]
"""Stage, state, message."""


@dataclass(frozen=True)
class Plan:
    """When a run is ended, and how."""

    signal: int = signal.SIGKILL
    at: frozenset[Event] | None = None
    """Events that were passed before: it is ended at the first one that is not among them (see `kind`)."""
    stage: str = ""
    """It is ended when this stage does something."""
    state: str = "started"
    after_s: float | None = None
    """It is ended so many seconds after its start, or after that event."""
    hold: bool = False
    """Not ended: held at that event until `Running.let_go`."""


@dataclass
class Ended:
    """What became of a run."""

    code: int | None
    seconds: float
    events: list[Event] = field(default_factory=list)
    error: str = ""
    left: list[str] = field(default_factory=list)
    """Commands of processes that outlived it, the yard apart."""

    @property
    def last(self) -> Event:
        """Where it ended."""
        return self.events[-1]


EVERY_EVENT = "MODELYARD_EVERY_EVENT"
"""Set by `make nightly`: a run is killed at each message of a stage's progress, and not at its first one only."""


def kind(event: Event) -> Event:
    """An event without its numbers and the name of a metric, and `cached` as `done`."""
    stage, state, message = event
    each = state == "progress" and os.environ.get(EVERY_EVENT)
    told = re.sub(r"measuring \S+|[\d.]+", "#", message) if each else ""
    return stage, "done" if state == "cached" else state, told


class Running:
    """A run on its way."""

    def __init__(self, folder: Path, *, until: str | None = None, plan: Plan | None = None, **more: Any) -> None:
        self.mark = secrets.token_hex(8)
        ours, theirs = _fork.Pipe()
        self._events = ours
        self._began = time.monotonic()
        self.process = _fork.Process(target=_run, args=(folder, until, plan, theirs, self.mark, more))
        self.process.start()
        theirs.close()
        self.seen: list[Event] = []

    def until(self, stage: str, state: str) -> None:
        """Wait for an event."""

        def came() -> bool:
            alive = self.process.is_alive()
            self._read()
            there = (stage, state) in [event[:2] for event in self.seen]
            assert there or alive, f"ended before {stage} {state}: {self.seen[-3:]}"
            return there

        wait_until(came, deadline_s=LONGEST_S, what=f"{stage} {state}")

    def let_go(self) -> None:
        """End a hold."""
        self._events.send("go on")

    def _read(self) -> None:
        with contextlib.suppress(EOFError, ConnectionResetError):
            while self._events.poll():
                self.seen.append(self._events.recv())

    def end(self) -> Ended:
        """Wait for it, and for all that it started."""
        deadline = time.monotonic() + LONGEST_S
        while self.process.is_alive() and time.monotonic() < deadline:
            self._read()
            self.process.join(0.02)
        assert not self.process.is_alive(), f"still runs after {LONGEST_S} s; events: {self.seen[-5:]}"
        self._read()
        seconds = time.monotonic() - self._began
        left: list[str] = []
        with contextlib.suppress(Exception):
            wait_until(lambda: not family(self.mark), deadline_s=10, what="the end of its processes")
        left = family(self.mark)
        events = [event for event in self.seen if event[0] != "error"]
        errors = [event for event in self.seen if event[0] == "error"]
        return Ended(self.process.exitcode, seconds, events, errors[-1][2] if errors else "", left)


def walk(folder: Path, *, until: str | None = None, plan: Plan | None = None, **more: Any) -> Ended:
    """Run a project in another process, and wait for its end."""
    return Running(folder, until=until, plan=plan, **more).end()


def family(mark: str) -> list[str]:
    """Living processes that inherited a mark, as commands; services that run on in the background are not meant."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:200])
    return found


def _run(  # noqa: PLR0917
    folder: Path, until: str | None, plan: Plan | None, pipe: Connection, mark: str, more: Mapping[str, Any]
) -> None:
    """In the other process: `modelyard run`, as its entry point would, with one who watches and ends it."""
    from modelyard.errors import ModelyardError
    from modelyard.project import Project

    os.environ[MARK] = mark  # what is started from here on inherits it

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    if more.get("user"):
        os.seteuid(more["user"])
    os.environ.update(more.get("env", {}))
    if more.get("hide"):
        sys.modules[more["hide"]] = None  # type: ignore[assignment]  # its import fails
    if plan and plan.after_s is not None and not plan.stage:
        _later(plan)
    code = 0
    try:
        settings = {"until": until, "from_": more.get("from_"), "set": more.get("set")}
        done = Project.load(folder).run(observer=_Watch(pipe, plan), **settings)
        code = done.exit_code
    except KeyboardInterrupt:
        code = 130
    except ModelyardError as error:
        pipe.send(("error", type(error).__name__, str(error)))
        code = error.exit_code
    sys.exit(code)


def _later(plan: Plan) -> None:
    timer = threading.Timer(plan.after_s or 0.0, os.kill, (os.getpid(), plan.signal))
    timer.daemon = True
    timer.start()


class _Watch:
    """Tells each event, and ends or holds the process at the planned one."""

    def __init__(self, pipe: Connection, plan: Plan | None) -> None:
        self._pipe, self._plan = pipe, plan
        self._lock = threading.Lock()

    def on_event(self, stage: str, state: str, message: str, fraction: float | None) -> None:
        event = (str(stage), state, message)
        with self._lock:
            self._pipe.send(event)
            plan = self._plan
            if plan is None or not self._now(plan, event):
                return
            self._plan = None
            if plan.hold:
                self._pipe.recv()
            elif plan.after_s is not None:
                _later(plan)
            else:
                os.kill(os.getpid(), plan.signal)

    @staticmethod
    def _now(plan: Plan, event: Event) -> bool:
        if plan.at is not None:
            return kind(event) not in plan.at
        return bool(plan.stage) and event[:2] == (plan.stage, plan.state)


def last_run(folder: Path) -> RunRecord:
    """The record of the newest run."""
    return Journal(folder / ".modelyard").all()[-1]


def results(folder: Path) -> dict[str, Any]:
    """Where a run ended, by what does not depend on time: keys of stages, digests of weights and of the archive."""
    run = last_run(folder)
    found: dict[str, Any] = {f"{entry.stage}.key": entry.key for entry in run.stages}
    state = folder / ".modelyard"
    for entry in run.stages:
        if not entry.folder:
            continue
        result = json.loads((state / entry.folder / "result.json").read_text())
        for name in ("fingerprint", "digests", "digest", "steps", "verdict"):
            if name in result:
                found[f"{entry.stage}.{name}"] = result[name]
        metrics = {name: metric for name, metric in result.get("metrics", {}).items() if "latency" not in name}
        found[f"{entry.stage}.metrics"] = metrics
    return found


def forget(folder: Path) -> None:
    """As if nothing had run here; services and the signing key stay."""
    for name in ("stages", "runs", "work", "champions", "code"):
        shutil.rmtree(folder / ".modelyard" / name, ignore_errors=True)


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders that nobody will name again."""
    state = folder / ".modelyard"
    return [
        str(path.relative_to(state))
        for path in state.rglob("*")
        if path.name.endswith((".tmp", ".staged", ".new")) and "yard" not in path.relative_to(state).parts
    ]
