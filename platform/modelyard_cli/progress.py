"""How a run looks while it works: live bars in a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

MARKS = {"started": "…", "progress": "…", "cached": "=", "done": "✓", "refused": "✗"}
"""`=`: taken from disk, because nothing that it depends on has changed."""
_QUIET_S = 2.0
"""Plain lines: at most one about the same stage in this time, unless its state changes."""


class Observer(Protocol):
    """Who watches a run."""

    def on_event(self, stage: str, state: str, message: str, fraction: float | None) -> None:
        """`state` is one of started, progress, cached, done, refused; `fraction` of the stage, when known."""


@contextmanager
def progress(console: "Console") -> Iterator[Observer]:
    """An observer that draws on `console` until the block ends."""
    if not console.is_terminal:
        yield PlainLines(partial(console.print, markup=False, highlight=False, soft_wrap=True))
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.fields[mark]}", style="bold"),
        TextColumn("{task.description:<9}"),
        SpinnerColumn(finished_text=" "),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", markup=False),
    )
    with Progress(*columns, console=console, refresh_per_second=8) as bars:
        yield Bars(bars)


class PlainLines:
    """One line for each change: what a log file wants."""

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._last: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._lock = threading.Lock()

    def on_event(self, stage: str, state: str, message: str, fraction: float | None) -> None:
        """Print it, unless it is more of the same too soon."""
        with self._lock:
            now = self._clock()
            if state == "started":
                self._began[stage] = now
            if state == "progress" and now - self._last.get(stage, now - _QUIET_S) < _QUIET_S:
                return
            self._last[stage] = now
            share = f" {fraction:4.0%}" if state == "progress" and fraction is not None else ""
            took = f" {now - self._began[stage]:.1f} s" if state in ("done", "refused") and stage in self._began else ""
            told = f": {message}" if message else ""
            self._say(f"{MARKS.get(state, '·')} {stage:<9} {state}{share}{took}{told}")


class Bars:
    """A bar for each stage."""

    def __init__(self, bars: "Progress") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def on_event(self, stage: str, state: str, message: str, fraction: float | None) -> None:
        """Draw it."""
        with self._lock:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=None, mark=" ", message="")
            task = self._tasks[stage]
            ended = state in ("cached", "done", "refused")
            if ended or fraction is not None:
                self._bars.update(task, total=1.0, completed=1.0 if ended else fraction)
            self._bars.update(task, mark=MARKS.get(state, "·"))
            if message:
                self._bars.update(task, message=message)
            if ended:
                self._bars.stop_task(task)
