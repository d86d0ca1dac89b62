"""Why a training ended, from the exit codes and reports of its processes. Pure.

The first report is the cause: processes that lost their neighbour fail too, later and with less to say. The reason of
an out-of-memory kill is kept (kubeflow/pipelines #13192), and codes follow Kubernetes' ExitCode policy: 1 to 127 are
for good, 128 and above are worth another try from the last checkpoint.
"""

import signal
from collections.abc import Mapping, Sequence
from enum import StrEnum

from modelyard.record import record


class Fate(StrEnum):
    """What to do about an end."""

    DONE = "Done"
    PERMANENT = "Permanent"
    """It would fail again: a report says why."""
    RETRY = "Retry"
    """Killed from outside: another try from the last checkpoint may do."""


@record
class Report:
    """What a process wrote before it gave up."""

    rank: int
    kind: str
    """Name of the error's class."""
    what: str
    do: str
    at: float
    """Seconds since the epoch."""
    trace: str = ""
    """The end of the traceback, where the error is the user's code."""


@record
class Ending:
    """Why a training ended, and what to do about it."""

    fate: Fate
    kind: str = "StageFailed"
    what: str = ""
    do: str = ""
    rank: int = -1
    """Of the process that failed first; -1 where none is known."""
    trace: str = ""
    """The end of its traceback."""


RETRY = 138
"""Exit code of a node where another try from the last checkpoint may do; operators start a pod again from 128 on."""
FOR_GOOD: Mapping[str, int] = {"BadInput": 2, "BadSpec": 2, "RecipeError": 2, "FolderError": 2}
"""Exit codes of a node where another try would end the same way; 1 for all else."""

TOLD_TO_STOP = 143
"""Exit code of a process that was told to stop by SIGTERM and saved a checkpoint."""
_NEIGHBOUR_LOST = ("connection closed by peer", "connection reset by peer", "broken pipe", "connection refused")
"""What gloo says in a process whose neighbour ended."""


def ending(agent: int, exits: Mapping[int, int], reports: Sequence[Report], *, out_of_memory: bool, log: str) -> Ending:
    """Judge an end.

    Args:
        agent: exit code of the process that started the others.
        exits: rank → exit code, minus the signal's number if one killed it; of processes that failed by themselves.
        reports: what processes wrote, in any order.
        out_of_memory: whether the kernel ended a process of our memory group since the start.
        log: path of the log, for the message.
    """
    told = sorted((report for report in reports if not _lost_neighbour(report)), key=lambda report: report.at)
    if told and not _lost_worker(told[0]):
        first = told[0]
        return Ending(
            fate=Fate.PERMANENT, kind=first.kind, what=first.what, do=first.do, rank=first.rank, trace=first.trace
        )
    if killed := _killed(agent, exits, worker=bool(told)):
        who, number = killed
        return _was_killed(who, number, out_of_memory=out_of_memory, log=log)
    if reports:
        return Ending(fate=Fate.RETRY, what=f"A process was lost: {reports[0].what}", do=f"read {log}")
    codes = [(f"Process {rank}", code) for rank, code in sorted(exits.items()) if code]
    if agent and not codes:
        codes = [("The training's agent", agent)]
    if not codes:
        return Ending(fate=Fate.DONE)
    who, code = codes[0]
    if code == TOLD_TO_STOP:
        return Ending(fate=Fate.RETRY, what="The training was told to stop", do="start it again to go on")
    fate = Fate.PERMANENT if code < 128 else Fate.RETRY
    return Ending(fate=fate, what=f"{who} ended with {code} and no word", do=f"read {log}")


def _killed(agent: int, exits: Mapping[int, int], *, worker: bool) -> tuple[str, int] | None:
    """Who was killed by which signal, if anybody was."""
    if worker:
        return "A loader worker", signal.SIGKILL
    ranks = sorted((rank, -code) for rank, code in exits.items() if code < 0)
    if ranks:
        return f"Process {ranks[0][0]}", ranks[0][1]
    return ("The training's agent", -agent) if agent < 0 else None


def _was_killed(who: str, number: int, *, out_of_memory: bool, log: str) -> Ending:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if out_of_memory:
        return Ending(
            fate=Fate.RETRY,
            what=f"{who} was killed: out of memory",
            do="lower train.batchSize or train.resources.loaderWorkers, or give it more memory",
        )
    perhaps = " (often: out of memory)" if number == signal.SIGKILL else ""
    return Ending(fate=Fate.RETRY, what=f"{who} was killed by {name}{perhaps}", do=f"read {log} and run again")


def _lost_worker(report: Report) -> bool:
    return "DataLoader worker" in report.what and "killed by signal" in report.what


def _lost_neighbour(report: Report) -> bool:
    return report.kind == "StageFailed" and any(sign in report.what.lower() for sign in _NEIGHBOUR_LOST)
