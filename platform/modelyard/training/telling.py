"""What a training on a cluster tells: how far it is, how quickly, in how much memory, and who fell silent."""

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from modelyard.spec.train import Train
from modelyard.training.curves import Curves
from modelyard.training.follow import padded
from modelyard.training.train import Progress
from modelyard.training.watch import describe

_RANK: Final = re.compile(r"\[rank (\d+)\] ")
SAID_EVERY_S = 30.0


class Telling:
    """Turns events and lines into messages."""

    def __init__(self, train: Train, say: Progress) -> None:
        self._say, self._epochs = say, train.epochs
        resources = train.resources
        self._per_step = train.batch_size * train.accumulate * resources.nodes * resources.processes_per_node
        self._moved = time.monotonic()
        self._at: Mapping[str, Any] | None = None
        self._speed = ""
        self._memory: dict[str, tuple[float, float]] = {}
        self._ranks: dict[int, str] = {}
        self._waiting = ("", 0.0)
        self.last = "starting"

    def event(self, text: str, curves: Curves | None) -> None:
        """An event of a node's log."""
        with suppress(ValueError, KeyError, TypeError):  # a line that only looks like one
            event = json.loads(text)
            self._measure(event)
            if event["event"] == "epoch" and curves is not None:
                curves.epoch(event)
            if event["event"] != "memory":
                self.moved()
            if told := describe(event, epochs=self._epochs):
                self.last = told[0].partition(",")[0].partition(":")[0]
                self._say(", ".join(part for part in (told[0], self._speed, self._gpus()) if part), told[1])

    def line(self, text: str, at: str) -> None:
        """A line of a rank."""
        if found := _RANK.match(text):
            self._ranks[int(found[1])] = padded(at)

    def waiting(self, what: str) -> None:
        """Say that nothing runs, now and then."""
        if what != self._waiting[0] or time.monotonic() - self._waiting[1] > SAID_EVERY_S:
            self._waiting = (what, time.monotonic())
            self._say(what, None)

    def moved(self) -> None:
        """Something happened."""
        self._moved = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since the last event."""
        return time.monotonic() - self._moved

    def quietest(self) -> str:
        """The rank that wrote nothing for longest, where ranks write."""
        if len(self._ranks) < 2:
            return ""
        rank = min(self._ranks, key=lambda each: self._ranks[each])
        return f" (rank {rank} has been silent since {self._ranks[rank][11:19]})"

    def _measure(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "step":
            before, self._at = self._at, event
            if before and event["step"] > before["step"] and event["at"] > before["at"]:
                steps = (event["step"] - before["step"]) / (event["at"] - before["at"])
                self._speed = f"{steps * self._per_step:.0f} samples/s"
        elif event["event"] == "memory" and event.get("gpus"):
            used, whole = max((pair[0], pair[1]) for pair in event["gpus"])
            self._memory[str(event.get("node"))] = (used, whole)

    def _gpus(self) -> str:
        """The fullest GPU of all nodes."""
        if not self._memory:
            return ""
        used, whole = max(self._memory.values())
        return f"GPU {used / 2**30:.1f}/{whole / 2**30:.0f} GiB"
