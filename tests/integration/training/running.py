"""A launcher and its ranks, as a test sees and kills them."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from modelyard.processes import wait_until
from modelyard.training.files import EXITS, FINISHED, LOG

SECONDS = 300.0


@dataclass
class Running:
    """A launcher and its ranks."""

    pid: int
    out: Path

    def ranks(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children()
        except psutil.NoSuchProcess:
            return []

    def everyone(self) -> list[psutil.Process]:
        try:
            launcher = psutil.Process(self.pid)
            return [launcher, *launcher.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def until_step(self, step: int) -> None:
        """Wait for the checkpoint of a step, or a later one."""

        def reached() -> bool:
            if (self.out / EXITS).exists():
                pytest.fail(f"ended before step {step}:\n{(self.out / LOG).read_text()[-3000:]}")
            there = [int(path.name.split("-")[1]) for path in (self.out / "checkpoints").glob("step-*")]
            return max(there, default=0) >= step

        wait_until(reached, deadline_s=SECONDS, what=f"step {step}")

    def kill(self) -> None:
        """SIGKILL to the whole group at once."""
        everyone = self.everyone()
        os.killpg(self.pid, signal.SIGKILL)
        gone(everyone)

    def until_ended(self, *, deadline_s: float = SECONDS) -> dict[str, int]:
        """Wait for the end; gives exit codes of ranks that failed."""
        everyone = self.everyone()
        wait_until((self.out / EXITS).exists, deadline_s=deadline_s, what="the end of the training")
        gone(everyone)
        return json.loads((self.out / EXITS).read_text())


def gone(processes: list[psutil.Process]) -> None:
    def none_left() -> bool:
        return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)

    def quiet() -> bool:
        try:
            return none_left()
        except psutil.NoSuchProcess:
            return False

    wait_until(quiet, deadline_s=20, what="the end of all processes")


def finished(out: Path) -> dict:
    """What the ranks left, or the log of why they did not."""
    assert (out / FINISHED).exists(), (out / LOG).read_text()[-3000:]
    return json.loads((out / FINISHED).read_text())
