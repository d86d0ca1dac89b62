"""Why a training ended."""

import pytest

from modelyard.training.failures import Fate, Report, ending


def report(kind: str = "BadInput", what: str = "no such file", *, rank: int = 0, at: float = 1.0) -> Report:
    return Report(rank=rank, kind=kind, what=what, do="correct it", at=at)


LOST = report("StageFailed", "RuntimeError: [gloo/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1234", rank=1)

TABLE = {
    "all ended well": (0, {}, [], False, Fate.DONE, ""),
    "a report of bad input is the cause": (1, {0: 2}, [report()], False, Fate.PERMANENT, "no such file"),
    "the first report counts, not the louder one": (
        1, {0: 1}, [report(what="second", at=2.0), report(what="first", rank=1)], False, Fate.PERMANENT, "first",
    ),
    "a lost neighbour is never the cause": (1, {0: 2}, [LOST, report(at=5.0)], False, Fate.PERMANENT, "no such file"),
    "a killed process is tried again": (1, {1: -9}, [LOST], False, Fate.RETRY, "Process 1 was killed by SIGKILL"),
    "a guess says that it is one": (1, {1: -9}, [], False, Fate.RETRY, "often: out of memory"),
    "out of memory is said when it is known": (1, {1: -9}, [], True, Fate.RETRY, "was killed: out of memory"),
    "a crash keeps its signal": (1, {0: -11}, [], False, Fate.RETRY, "SIGSEGV"),
    "a bus error keeps its signal": (1, {0: -7}, [], False, Fate.RETRY, "SIGBUS"),
    "only lost neighbours": (1, {}, [LOST], False, Fate.RETRY, "A process was lost"),
    "a killed loader worker": (
        1, {0: 1}, [report("StageFailed", "RuntimeError: DataLoader worker (pid 3) is killed by signal: Killed.")],
        False, Fate.RETRY, "A loader worker was killed",
    ),
    "the agent was killed": (-9, {}, [], False, Fate.RETRY, "The training's agent was killed by SIGKILL"),
    "a code below 128 is for good": (1, {0: 3}, [], False, Fate.PERMANENT, "Process 0 ended with 3"),
    "a code from 128 on is tried again": (1, {0: 137}, [], False, Fate.RETRY, "Process 0 ended with 137"),
    "all were told to stop": (1, {0: 143, 1: 143}, [], False, Fate.RETRY, "The training was told to stop"),
    "the agent failed by itself": (1, {}, [], False, Fate.PERMANENT, "agent ended with 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_an_end_is_judged(case):
    """The reason of an out-of-memory kill is kept (kubeflow/pipelines #13192)."""
    agent, exits, reports, out_of_memory, fate, told = case
    end = ending(agent, exits, reports, out_of_memory=out_of_memory, log="train.log")
    assert end.fate is fate
    assert told in end.what
