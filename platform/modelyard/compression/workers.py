"""Processes of variants, and the state of the bench that runs them."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from modelyard.compression.job import Job
from modelyard.compression.judge import Judged
from modelyard.compression.search import Candidate

BUILD_SHARE = 0.7
"""Of the time budget: what is not built and evaluated by then is given up, so that time to measure is left."""


@dataclass
class Worker:
    """One process of a variant, and our end of its pipe."""

    candidate: Candidate
    process: Any
    pipe: connection.Connection

    @property
    def name(self) -> str:
        """The candidate's."""
        return self.candidate.name

    def stop(self) -> str:
        """End it; gives how it had ended before, if it had."""
        self.process.join(0.2)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        self.pipe.close()
        return f"its process {_how(code)}"


def _how(code: int | None) -> str:
    """How a process ended, by its exit code.

    >>> _how(-11), _how(3)
    ('crashed (SIGSEGV)', 'crashed (exit 3)')
    """
    if code is None:
        return "crashed"
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does when memory runs out"
    return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"crashed (exit {code})"


@dataclass
class Bench:
    """What goes on: who waits, who works, who is ready to be timed, who failed and why."""

    job: Job
    say: Callable[[str, float], None]
    active: dict[connection.Connection, Worker] = field(default_factory=dict)
    ready: dict[str, tuple[Worker, Judged]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    tried: dict[str, Candidate] = field(default_factory=dict)
    """All that were asked for, by name, the reference first."""

    @property
    def share(self) -> float:
        """Of the work: the rest is timing."""
        return BUILD_SHARE * (len(self.ready) + len(self.failures)) / max(1, len(self.tried))

    @property
    def workers(self) -> Iterator[Worker]:
        """All that live."""
        yield from list(self.active.values())
        yield from [worker for worker, _ in self.ready.values()]
