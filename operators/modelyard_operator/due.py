"""When to look at what: a queue of keys by time, level-triggered.

A key is in the queue at most once: what wakes it twice makes one look. It is given to one worker at a time: what
wakes it meanwhile makes one more look afterwards. Trouble pauses a key, longer each time, and no event shortens such a
pause but one that says that people changed something (a hot loop after a refused write: zalando-incubator/kopf #350).
"""

import heapq
import threading
import time
from typing import NamedTuple

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 30.0


def pause_s(failures: int) -> float:
    """Seconds after so many failures in a row: 0.05, 0.1, 0.2 … 30.

    >>> [pause_s(failures) for failures in (1, 2, 3, 10, 11, 10_000)]
    [0.05, 0.1, 0.2, 25.6, 30.0, 30.0]
    """
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_S)


class Taken(NamedTuple):
    """A key that is due, and since when."""

    key: str
    since: float


class Schedule:
    """The queue without clock and threads: time is an argument, in seconds of any one clock."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        """By key; what is being looked at may be due again already."""
        self._heap: list[tuple[float, str]] = []
        """The same, with entries that an earlier time has replaced."""
        self._running: set[str] = set()
        self._failures: dict[str, int] = {}
        self._held: dict[str, float] = {}
        """Not before this, after trouble."""

    def __len__(self) -> int:
        return len(self._due)

    def wake(self, key: str, at: float, *, forgive: bool = False) -> None:
        """Let `key` be due at `at`, if it is not due earlier already.

        Args:
            key: what to look at.
            at: the time; that of now for at once.
            forgive: people changed something: earlier trouble says nothing any more.
        """
        if forgive:
            self._held.pop(key, None)
            self._failures.pop(key, None)
        at = max(at, self._held.get(key, at))
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            if key not in self._running:
                heapq.heappush(self._heap, (at, key))

    def take(self, now: float) -> Taken | None:
        """The key that has been due for longest; nobody else is given it until `done` or `failed`."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if key not in self._running and self._due.get(key) == at:
                del self._due[key]
                self._running.add(key)
                return Taken(key, at)
        return None

    def done(self, key: str, *, again: float | None) -> None:
        """It was looked at; it is due again at `again`, or when something wakes it."""
        self._failures.pop(key, None)
        self._held.pop(key, None)
        self._back(key, again)

    def failed(self, key: str, now: float) -> float:
        """It met trouble; gives the seconds until it is due again."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = pause_s(failures)
        self._held[key] = now + pause
        if key in self._due:
            self._due[key] = max(self._due[key], now + pause)
        self._back(key, now + pause)
        return pause

    def forget(self, key: str) -> None:
        """It is gone."""
        for kept in (self._due, self._failures, self._held):
            kept.pop(key, None)

    def next_at(self) -> float | None:
        """When the next key is due; None: nothing waits."""
        while self._heap and (self._heap[0][1] in self._running or self._due.get(self._heap[0][1]) != self._heap[0][0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _back(self, key: str, again: float | None) -> None:
        self._running.discard(key)
        if again is not None:
            self._due[key] = min(again, self._due.get(key, again))
        if key in self._due:
            heapq.heappush(self._heap, (self._due[key], key))


class Queue:
    """A `Schedule` for threads, by the monotonic clock: steps of the wall clock neither hold up nor hurry a look."""

    def __init__(self) -> None:
        self._schedule = Schedule()
        self._changed = threading.Condition()
        self._open = True

    def wake(self, key: str, *, after_s: float = 0.0, forgive: bool = False) -> None:
        """Let `key` be due `after_s` seconds from now, if it is not due earlier already."""
        with self._changed:
            self._schedule.wake(key, time.monotonic() + after_s, forgive=forgive)
            self._changed.notify()

    def take(self) -> Taken | None:
        """Wait for a key that is due; None: the queue was closed."""
        with self._changed:
            while self._open:
                now = time.monotonic()
                taken = self._schedule.take(now)
                if taken is not None:
                    return taken
                upcoming = self._schedule.next_at()
                self._changed.wait(None if upcoming is None else max(0.0, upcoming - now))
            return None

    def done(self, key: str, *, after_s: float | None) -> None:
        """It was looked at; it is due again in `after_s` seconds, or when something wakes it."""
        with self._changed:
            self._schedule.done(key, again=None if after_s is None else time.monotonic() + after_s)
            self._changed.notify()

    def failed(self, key: str) -> float:
        """It met trouble; gives the seconds until it is due again."""
        with self._changed:
            pause = self._schedule.failed(key, time.monotonic())
            self._changed.notify()
            return pause

    def forget(self, key: str) -> None:
        """It is gone."""
        with self._changed:
            self._schedule.forget(key)

    def close(self) -> None:
        """Let every `take` end."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._schedule)

    def age_s(self) -> float:
        """For how many seconds the next key has been due: 0 where every worker keeps up."""
        with self._changed:
            upcoming = self._schedule.next_at()
            return 0.0 if upcoming is None else max(0.0, time.monotonic() - upcoming)
