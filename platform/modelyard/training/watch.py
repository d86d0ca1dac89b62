"""The parent's eyes on a running training: its progress, its machine, and whether it still moves."""

import contextlib
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from modelyard.errors import StageFailed, Unavailable
from modelyard.processes import Child, shorten, wait_until
from modelyard.training.curves import Curves

SAMPLE_S = 1.0
_LIBRARY = ("site-packages", f"{Path(__file__).parents[1]}/", "/lib/python", "<frozen")
"""Lines that are not the user's. Our own by their very place: the user's code lies below `.modelyard/` too."""


def describe(event: Mapping[str, Any], *, epochs: int) -> tuple[str, float | None] | None:
    """An event of the trainer in words, and how much is done; None for what nobody needs to be told."""
    kind = event["event"]
    if kind == "start" and event["step"]:
        return f"going on from step {event['step']}", event["epoch"] / epochs
    if kind == "step":
        return f"step {event['step']}, epoch {event['epoch']}/{epochs}, loss {event['loss']:.4f}", event["share"]
    if kind == "epoch":
        metrics = {"train loss": event["train_loss"], "validation loss": event["validation_loss"], **event["metrics"]}
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if value is not None)
        return f"epoch {event['epoch']}/{epochs}: {shown}", event["epoch"] / epochs
    return None


class Watcher:
    """Looks again and again; tells `say` and `curves` what it sees."""

    def __init__(self, child: Child, *, stall_s: float, epochs: int) -> None:
        self._child, self._stall_s, self._epochs = child, stall_s, epochs
        self._moved = time.monotonic()
        self._last = "starting"
        self._sampled, self._samples = 0.0, 0

    def look(
        self, events: Sequence[Mapping[str, Any]], curves: Curves, say: Callable[[str, float | None], None]
    ) -> None:
        """Hand on what is new.

        Raises:
            StageFailed: nothing happened for too long; the message says where the processes are.
        """
        for event in events:
            self._moved = time.monotonic()
            self._tell(event, curves, say)
        if time.monotonic() - self._moved > self._stall_s:
            raise StageFailed(
                f"Nothing happened for {self._stall_s:g} s, the last was {self._last!r}{self._where()}",
                do="correct what does not return, or raise train.resources.stallTimeout",
            )
        if time.monotonic() - self._sampled > SAMPLE_S:
            self._sampled, self._samples = time.monotonic(), self._samples + 1
            shorten(self._child.log)  # a recipe may print at every step
            curves.system(self._machine(), self._samples)

    def _tell(self, event: Mapping[str, Any], curves: Curves, say: Callable[[str, float | None], None]) -> None:
        if event["event"] == "epoch":
            curves.epoch(event)
        if told := describe(event, epochs=self._epochs):
            self._last = told[0].partition(",")[0].partition(":")[0]
            say(*told)

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            found: list[psutil.Process] = psutil.Process(self._child.pid).children(recursive=True)
            return found
        return []

    def _machine(self) -> dict[str, float]:
        memory = psutil.virtual_memory()
        own = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                own += process.memory_info().rss
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
            "training_memory_megabytes": own / 1e6,
        }

    def _where(self) -> str:
        """Ask the processes for their stacks; gives the deepest line that is the user's."""
        size = self._child.log.stat().st_size
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(Unavailable):
            wait_until(lambda: self._child.log.stat().st_size > size + 200, deadline_s=10.0, what="the stacks")
        text = self._child.log.read_text("utf-8", errors="replace")[size:]
        for file, line, function in re.findall(r'File "([^"]+)", line (\d+) in (\w+)', text):
            if not any(part in file for part in _LIBRARY):
                return f" (in {function}, {Path(file).name} line {line})"
        return ""


def memory_kills() -> int:
    """How often the kernel ended a process of our memory group; 0 where that cannot be seen."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().strip().splitlines()[-1].split("::")[1].lstrip("/")
        for folder in (Path("/sys/fs/cgroup") / group, Path("/sys/fs/cgroup")):
            events = folder / "memory.events"
            if events.is_file():
                return int(dict(line.split() for line in events.read_text().splitlines()).get("oom_kill", 0))
    return 0
