"""The logs of all pods of a training as one stream: each pod's lines in their order, none lost and none twice.

A thread for each pod reads its log as it grows, and reads it once more when the pod has ended. A connection that breaks
is opened again at the last second that was read; what was had already is left out. Kubelet keeps a log until the
container's next start but one, and rotates it at 10 MiB: whoever was away for longer finds the rest only.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from modelyard.errors import ModelyardError
from modelyard.kube.port import PodLogs

READ_S = 30.0
"""How long one request waits for lines."""
AGAIN_S = 0.5
"""Until a log that broke off is asked for again."""
WAITING = 100_000
"""Lines between the threads and their reader; more than that makes the threads wait, not the memory grow."""


@dataclass(frozen=True)
class Line:
    """One line of one container."""

    pod: str
    uid: str
    time: str
    """As Kubernetes writes it, in nanoseconds."""
    text: str


class Cursor:
    """How far a log was read. Lines of one instant are told apart by their number."""

    def __init__(self) -> None:
        self.since = ""
        self._same = 0
        self._skip = 0

    def again(self) -> None:
        """The log is read again from `since`, with everything of that second."""
        self._skip = self._same

    def fresh(self, time: str) -> bool:
        """Whether a line of this time was not read before; it now is.

        Times of one log never go back. Nanoseconds are padded, since kubelet leaves zeros out at their end.
        """
        instant, since = padded(time), padded(self.since)
        if instant < since:
            return False
        if instant == since:
            if self._skip:
                self._skip -= 1
                return False
            self._same += 1
            return True
        self.since, self._same, self._skip = time, 1, 0
        return True


class Following:
    """Follows the logs of pods, each in a thread of its own."""

    def __init__(self, logs: PodLogs, namespace: str, container: str) -> None:
        self._logs, self._namespace, self._container = logs, namespace, container
        self._lines: queue.Queue[Line] = queue.Queue(WAITING)
        self._threads: dict[str, threading.Thread] = {}
        self._ended: dict[str, threading.Event] = {}
        self._closed = threading.Event()

    def follow(self, pod: str, uid: str) -> None:
        """Begin to read a pod whose container has begun; nothing when that was done before."""
        if uid in self._threads:
            return
        self._ended[uid] = threading.Event()
        self._threads[uid] = threading.Thread(target=self._read, args=(pod, uid), name=f"log-{pod}", daemon=True)
        self._threads[uid].start()

    def ended(self, uid: str) -> None:
        """Its container has ended, or it is gone: read the rest and no more."""
        if uid in self._ended:
            self._ended[uid].set()

    def lines(self, *, wait_s: float) -> Iterator[Line]:
        """What is there, after a wait of at most `wait_s` seconds for the first."""
        with suppress(queue.Empty):
            yield self._lines.get(timeout=wait_s)
            while True:
                yield self._lines.get_nowait()

    @property
    def reading(self) -> bool:
        """Whether any log is still read, or any line waits."""
        return any(thread.is_alive() for thread in self._threads.values()) or not self._lines.empty()

    def close(self) -> None:
        """Read no more."""
        self._closed.set()
        with suppress(queue.Empty):  # a thread may wait for room
            while True:
                self._lines.get_nowait()

    def _read(self, pod: str, uid: str) -> None:
        cursor = Cursor()
        while not self._closed.is_set():
            last = self._ended[uid].is_set()  # asked before the log is: what is written until then is in it
            before, there = cursor.since, False
            with suppress(ModelyardError):
                there = self._read_once(pod, uid, cursor, 0.0 if last else READ_S)
            if last and there:
                return
            if last:  # gone, or away for a moment: once more
                self._closed.wait(AGAIN_S)
                with suppress(ModelyardError):
                    self._read_once(pod, uid, cursor, 0.0)
                return
            if cursor.since == before:  # nothing new; after a connection that broke off, at once
                self._ended[uid].wait(AGAIN_S)

    def _read_once(self, pod: str, uid: str, cursor: Cursor, deadline_s: float) -> bool:
        """Read on; gives whether there was a log at all."""
        lines = self._logs.log(
            self._namespace, pod, container=self._container, since=cursor.since, deadline_s=deadline_s
        )
        if lines is None:
            return False
        cursor.again()
        for line in lines:
            time, _, text = line.partition(" ")
            if cursor.fresh(time):
                self._hand_over(Line(pod, uid, time, text))
            if self._closed.is_set():
                break
        return True

    def _hand_over(self, line: Line) -> None:
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._lines.put(line, timeout=0.5)
                return


def padded(time: str) -> str:
    """A time that sorts as text: kubelet leaves zeros out at its end."""
    seconds, _, fraction = time.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"
