"""Child processes: start, become ready, stop. What a laptop run is made of must never outlive it.

Three things keep orphans away, since none alone is enough:

- a *parent-death signal* (`prctl(PR_SET_PDEATHSIG)`) on the child itself, which torchrun and Java pass on in order.
  The kernel sends it when the **thread** that forked ends, so one thread that never ends does all forks;
- a *guard*, one tiny process for each of ours, which holds a pipe to us. When we are gone, however that happened, it
  ends the whole process group of each child: Java's workers too, which get no signal of their own;
- `Child.stop`, which ends the group before its leader is reaped, so that its number cannot belong to another by then.
"""

import contextlib
import ctypes
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from modelyard.errors import BadInput, Unavailable

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

_GUARD = """
import os, signal, sys, time
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
def send(number):
    for group in tuple(groups):
        try:
            os.killpg(group, number)
        except OSError:
            groups.discard(group)
send(signal.SIGTERM)
deadline = time.monotonic() + 3
while groups and time.monotonic() < deadline:
    time.sleep(0.05)
    send(0)
send(signal.SIGKILL)
"""


class Child:
    """A process that was started by `spawn`, the leader of its own session and process group."""

    def __init__(self, process: "subprocess.Popen[bytes]", argv: Sequence[str], log: Path, *, guarded: bool) -> None:
        self.pid = process.pid
        self.argv = tuple(argv)
        self.log = log
        self._process = process
        self._guarded = guarded
        self._reaping = threading.Lock()

    @property
    def exit_code(self) -> int | None:
        """How it ended: its code, or minus the signal's number; None while it runs."""
        with self._reaping:
            if self._process.returncode is not None:
                return self._process.returncode
            # WNOWAIT leaves the dead leader in place, which reserves the number of its group until `stop`.
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return self.exit_code is None

    def wait(self, deadline_s: float) -> int:
        """Its exit code, once it ended by itself.

        Raises:
            Unavailable: it still runs after `deadline_s` seconds.
        """
        wait_until(lambda: not self.alive(), deadline_s=deadline_s, what=f"the end of {Path(self.argv[0]).name}")
        code = self.exit_code
        assert code is not None
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing when it has ended."""
        with self._reaping:
            if self._process.returncode is None:
                os.kill(self.pid, number)

    def stop(self, grace: float = 5.0) -> int:
        """End it and its whole group; safe to repeat.

        Args:
            grace: seconds between SIGTERM to the process and SIGKILL to its group.

        Returns:
            Its exit code (minus the signal's number, if one ended it).
        """
        self.signal(signal.SIGTERM)
        with contextlib.suppress(Unavailable):
            self.wait(grace)
        with self._reaping:
            if self._process.returncode is None:
                _end_group(self.pid)
                self._process.wait()
        if self._guarded:
            _guard.forget(self.pid)
        return self._process.returncode

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log, for an error's message."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 200 * lines))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


class _Guard:
    """Our end of the guard: which groups end when we do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._owner = 0
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        with self._lock:
            if self._owner != os.getpid():  # a fork of ours answers for none of its parent's children
                self._owner, self._groups, self._process = os.getpid(), set(), None
            self._groups.add(group)
            self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        with self._lock:
            if self._owner == os.getpid() and group in self._groups:
                self._groups.discard(group)
                self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                bufsize=0, cwd="/", start_new_session=True,
            )  # fmt: skip
            line = "".join(f"+{group}\n" for group in sorted(self._groups))
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
        except BrokenPipeError:  # killed a moment ago: the parent-death signal stands alone until the next spawn
            self._process.wait()


class _Forks:
    """One thread that forks for all others and never ends by itself (see the module's docstring)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], Future[object]]] = queue.SimpleQueue()

    def run(self, job: Callable[[], T]) -> T:
        future: Future[T] = Future()
        with self._lock:
            if self._owner != os.getpid():
                self._owner, self._jobs = os.getpid(), queue.SimpleQueue()
                threading.Thread(target=self._work, args=(self._jobs,), name="forks", daemon=True).start()
            self._jobs.put((job, future))  # type: ignore[arg-type]
        return future.result()

    @staticmethod
    def _work(jobs: "queue.SimpleQueue[tuple[Callable[[], object], Future[object]]]") -> None:
        while True:
            job, future = jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)


_guard = _Guard()
_forks = _Forks()


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path,
    detached: bool = False,
) -> Child:
    """Start a process in its own session, without input, its output appended to `log`.

    Args:
        argv: the command; its first word is looked up on PATH.
        env: the whole environment; ours when absent.
        cwd: where it runs; here when absent.
        log: file for stdout and stderr; its folder is made.
        detached: it shall outlive us (`modelyard up`); the caller remembers its pid.

    Raises:
        BadInput: there is no such command, or it may not be run.
    """
    words = [str(word) for word in argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()

    def prepare() -> None:  # in the child, between fork and exec
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # we ended in between: that signal will never come
                os._exit(143)

    def fork() -> "subprocess.Popen[bytes]":
        with log.open("ab") as out:
            return subprocess.Popen(
                words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=None if detached else prepare,  # noqa: PLW1509  see _Forks
            )  # fmt: skip

    try:
        process = _forks.run(fork)
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise BadInput(
            f"cannot run {words[0]} ({error.strerror}: {error.filename})",
            do="install it or check the path and its rights",
        ) from None
    if not detached:
        _guard.watch(process.pid)
    return Child(process, words, log, guarded=not detached)


def shorten(log: Path, *, most: int = 10_000_000) -> bool:
    """Bound a log that a running child writes: beyond `most` bytes it begins anew, and its end moves to `<log>.1`.

    The child goes on in the same file, since `spawn` opens logs for appending. A line that it writes in the very moment
    may be lost. Gives whether the log was too long.
    """
    try:
        with log.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= most:
                return False
            file.seek(size - most // 2)
            log.with_name(f"{log.name}.1").write_bytes(file.read())
            file.truncate(0)
    except FileNotFoundError:
        return False
    return True


def die_with_parent() -> None:
    """Ask the kernel to end this process when the thread that forked it ends; for workers that others start for us.

    Process 1 is who takes in orphans, but in a container it may be who started us: then we are of its session.
    """
    parent = os.getppid()
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent or (parent == 1 and os.getsid(0) != os.getsid(1)):
            os.kill(os.getpid(), signal.SIGTERM)


def wait_until(check: Callable[[], T], *, deadline_s: float, what: str, child: Child | None = None) -> T:
    """The first true answer of `check`, asked again and again (10 ms at first, 0.25 s at last).

    Args:
        check: an answer that is false means "not yet"; what it raises is raised.
        deadline_s: seconds until giving up.
        what: what is waited for, for the message.
        child: the process that makes it come true; its end ends the wait at once.

    Raises:
        Unavailable: the deadline passed, or `child` ended; the message names `what`.
    """
    deadline = time.monotonic() + deadline_s
    pause = 0.01
    while True:
        ended = None if child is None else child.exit_code
        answer = check()
        if answer:
            return answer
        if child is not None and ended is not None:
            raise Unavailable(
                f"{what} never came: {Path(child.argv[0]).name} ended with {ended}\n{child.tail()}",
                do=f"read {child.log}",
            )
        left = deadline - time.monotonic()
        if left <= 0:
            logged = f"read {child.log}, then " if child else ""
            raise Unavailable(f"{what} did not come within {deadline_s:g} s", do=f"{logged}try again")
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.25)


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago and was not given out by this process before."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


_given: set[int] = set()


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
