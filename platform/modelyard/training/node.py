"""Process 1 of a training's pod: runs torchrun, tells how far it is, keeps checkpoints, hands in what came of it.

What the launcher reads in the pod's log are lines that begin with `@modelyard` and hold an event in JSON: those of the
trainer, and the memory of this node. Everything else is what the ranks wrote.

Exit codes: 0 done, 1 and 2 another try would end the same way, 138 another try from the last checkpoint may do, 143
told to stop. The operators start a pod again by these, and nobody counts (kubeflow/trainer #2045): so each node counts
its own starts in the store, and ends the job when there were too many. Being told to stop does not count.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelyard.errors import ModelyardError
from modelyard.spec.codec import from_json
from modelyard.storage.atomic import explained
from modelyard.storage.port import Store, open_store
from modelyard.training import shipping
from modelyard.training.failures import FOR_GOOD, RETRY, Ending, Fate, Report, ending
from modelyard.training.fetch import TERMINATION_LOG, leave_report
from modelyard.training.files import EXITS, FAILURES, FINISHED, PROGRESS, remove_unfinished
from modelyard.training.job import CHECKPOINTS, MODEL, WEIGHTS, TrainJob
from modelyard.training.progress import Follower
from modelyard.training.watch import memory_kills

MARK: Final = "@modelyard "
"""What an event's line begins with."""
LOOK_S = 0.1
MEMORY_EVERY_S = 10.0
TOLD_TO_STOP: Final = 143
_MEMORY = Path("/sys/fs/cgroup/memory.current")
_SMI = ("nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node of one training."""

    name: str
    attempt: str
    store: Store
    job: Path
    """Folder that `fetch` filled."""
    out: Path
    claim: Path | None
    """Where all nodes' checkpoints lie, if a claim keeps them."""
    rank: str
    """Of the node."""

    def run(self) -> tuple[int, Ending]:
        """Train; gives the exit code and why."""
        job = from_json(TrainJob, (self.job / "job.json").read_bytes(), where="job.json")
        starts = self._count(started=1)
        allowed = job.train.resources.restarts + 1
        if starts > allowed:
            return 1, Ending(fate=Fate.PERMANENT, what=f"This node was started {starts - 1} times and never finished",
                             do="read why each time, or raise train.resources.restarts")  # fmt: skip
        self._prepare()
        killed_before = memory_kills()
        agent = _agent(self.job, self.out, self.job / "code" / job.code_digest.removeprefix("sha256:"))
        stopping = threading.Event()

        def stop(number: int, _frame: object) -> None:
            stopping.set()
            agent.send_signal(number)  # torchrun passes it on to its ranks

        previous = signal.signal(signal.SIGTERM, stop)
        try:
            code = self._watch(agent)
        finally:
            signal.signal(signal.SIGTERM, previous)
            if agent.poll() is None:
                agent.kill()
                agent.wait()
        if stopping.is_set() and code:
            self._count(started=-1)
            return TOLD_TO_STOP, Ending(fate=Fate.RETRY, what="The node was told to stop", do="run again to go on")
        end = self._end(code, out_of_memory=memory_kills() > killed_before)
        if end.fate is Fate.DONE:
            self._hand_in()
            return 0, end
        return (FOR_GOOD.get(end.kind, 1) if end.fate is Fate.PERMANENT else RETRY), end

    def _prepare(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        checkpoints = self.out / CHECKPOINTS
        if self.claim is not None:
            if not checkpoints.is_symlink():
                checkpoints.symlink_to(self.claim, target_is_directory=True)
            return
        checkpoints.mkdir(exist_ok=True)
        remove_unfinished(checkpoints)
        if found := shipping.restore_checkpoint(self.store, self.name, checkpoints):
            tell("checkpoint", name=found)

    def _watch(self, agent: "subprocess.Popen[bytes]") -> int:
        follower, looked = Follower(self.out / PROGRESS), 0.0
        follower.new()  # of an earlier start of this container
        keeper = _Keeper(self) if self.claim is None else None
        while True:
            code = agent.poll()
            for event in follower.new():
                tell_event(event)
            if keeper is not None:
                keeper.look(last=code is not None)
            if time.monotonic() - looked > MEMORY_EVERY_S:
                looked = time.monotonic()
                tell("memory", node=self.rank, **_memory())
            if code is not None:
                return code
            time.sleep(LOOK_S)

    def _end(self, code: int, *, out_of_memory: bool) -> Ending:
        exits = json.loads((self.out / EXITS).read_text()) if (self.out / EXITS).is_file() else {}
        reports = [from_json(Report, path.read_bytes(), where=str(path)) for path in sorted(self.out.glob(FAILURES))]
        codes = {int(rank): exit_code for rank, exit_code in exits.items()}
        return ending(code, codes, reports, out_of_memory=out_of_memory, log="the log")

    def _hand_in(self) -> None:
        """The node that has rank 0 has the weights."""
        if not (self.out / FINISHED).is_file():
            return
        files = {name: self.out / name for name in (WEIGHTS, FINISHED, PROGRESS)}
        files |= dict(shipping.files_below(self.out / MODEL, MODEL))
        shipping.hand_in(self.out, self.store, self.name, files)
        tell("handed in")

    def _count(self, *, started: int) -> int:
        key = f"trainings/{self.name}/starts-{self.attempt}-{self.rank}.json"
        starts = shipping.read_json(self.store, key).get("starts", 0) + started
        self.out.mkdir(parents=True, exist_ok=True)
        shipping.write_json(self.store, key, {"starts": starts}, self.out / "starts.json")
        return starts


class _Keeper:
    """Copies each new checkpoint to the store, beside the training; the newest only, when it falls behind."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._kept = ""
        self._busy: threading.Thread | None = None

    def look(self, *, last: bool) -> None:
        """Begin to copy what is new; with `last`, wait until it is there."""
        if last and self._busy is not None:
            self._busy.join()
        if self._busy is not None and self._busy.is_alive():
            return
        folders = sorted((self._node.out / CHECKPOINTS).glob("step-*"))
        if folders and folders[-1].name != self._kept:
            self._busy = threading.Thread(target=self._keep, args=(folders[-1],), daemon=True)
            self._busy.start()
            if last:
                self._busy.join()

    def _keep(self, folder: Path) -> None:
        # a checkpoint that the trainer removed meanwhile, or a store that is away: the next one will do
        with contextlib.suppress(OSError, ModelyardError), explained(folder):
            shipping.save_checkpoint(folder, self._node.store, self._node.name)
            self._kept = folder.name
            tell("kept", name=folder.name)


def tell(event: str, **what: Any) -> None:
    """Write an event to the log."""
    tell_event({"at": time.time(), "event": event, **what})


def tell_event(event: Mapping[str, Any]) -> None:
    """Write an event of the trainer to the log, in one write so that no rank's line comes between."""
    sys.stdout.write(f"{MARK}{json.dumps(event)}\n")
    sys.stdout.flush()


def _agent(job: Path, out: Path, code: Path) -> "subprocess.Popen[bytes]":
    for old in (*out.glob(FAILURES), out / EXITS):
        old.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "modelyard.training.agent", str(job / "job.json"), str(out), str(code)]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def _memory() -> dict[str, Any]:
    """Memory of the container, and of its GPUs where there are some, in bytes."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        found["used"] = int(_MEMORY.read_text())
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        told = subprocess.run(_SMI, capture_output=True, text=True, timeout=5, check=True).stdout
        found["gpus"] = [[int(number) << 20 for number in line.split(",")] for line in told.splitlines()]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="modelyard.training.node", description=__doc__.partition("\n")[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--training", required=True)
    parser.add_argument("--attempt", default="1")
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, help="where a claim is mounted; else the store keeps them")
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG)
    given = parser.parse_args(argv)
    node = Node(
        name=given.training, attempt=given.attempt, store=open_store(given.store), job=given.job, out=given.out,
        claim=given.checkpoints,
        rank=os.environ.get("PET_NODE_RANK") or os.environ.get("HOSTNAME", "0"),
    )  # fmt: skip
    try:
        code, end = node.run()
    except ModelyardError as error:
        code, end = RETRY, Ending(fate=Fate.RETRY, kind=type(error).__name__, what=error.what, do=error.do)
    if end.fate is not Fate.DONE:
        print(f"{end.what}. {end.do}", file=sys.stderr)  # noqa: T201  the container's log
        report = Report(rank=end.rank, kind=end.kind, what=end.what, do=end.do, at=time.time(), trace=end.trace)
        leave_report(report, given.termination_log)
    return code


if __name__ == "__main__":
    sys.exit(main())
