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


@record
class Ending:
    """Why a training ended, and what to do about it."""

    fate: Fate
    kind: str = "StageFailed"
    what: str = ""
    do: str = ""


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
    own = [report for report in reports if not _lost_neighbour(report)]
    killed = {rank: -code for rank, code in exits.items() if code < 0}
    if own:
        first = min(own, key=lambda report: report.at)
        worker_killed = "DataLoader worker" in first.what and "killed by signal" in first.what
        if not worker_killed:
            return Ending(fate=Fate.PERMANENT, kind=first.kind, what=first.what, do=first.do)
        return _killed("A loader worker", 9, out_of_memory=out_of_memory, log=log)
    if killed:
        rank, number = min(killed.items())
        return _killed(f"Process {rank}", number, out_of_memory=out_of_memory, log=log)
    codes = {rank: code for rank, code in exits.items() if code}
    if reports:
        return Ending(fate=Fate.RETRY, what=f"A process of the training was lost: {reports[0].what}", do=f"read {log}")
    if codes:
        rank, code = min(codes.items())
        fate = Fate.PERMANENT if code < 128 else Fate.RETRY
        return Ending(fate=fate, what=f"Process {rank} ended with {code} and no word", do=f"read {log}")
    if agent < 0:
        return _killed("The training's agent", -agent, out_of_memory=out_of_memory, log=log)
    if agent:
        return Ending(fate=Fate.PERMANENT, what=f"The training's agent ended with {agent}", do=f"read {log}")
    return Ending(fate=Fate.DONE)


def _killed(who: str, number: int, *, out_of_memory: bool, log: str) -> Ending:
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


def _lost_neighbour(report: Report) -> bool:
    return report.kind == "StageFailed" and any(sign in report.what.lower() for sign in _NEIGHBOUR_LOST)
