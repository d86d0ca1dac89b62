"""Counters of many processes, each since its own start, as one that only grows. No clock, no network.

A process that began anew (its count fell) or is gone keeps what it had counted. What was counted by processes that came
and went unseen is lost: that is a gap in the evidence, never an error in it.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from functools import reduce
from operator import add, sub

from modelyard.record import record
from modelyard.rollout.observation import Counts

Place = tuple[str, str]
"""Key of the deployment, and arm."""


@record
class Reading:
    """What one process counted since it started."""

    requests: int = 0
    errors: int = 0
    latency: tuple[int, ...] = ()
    """Cumulative over bounds; the last counts all."""
    bounds: tuple[float, ...] = ()
    """Milliseconds."""
    classes: Mapping[str, int] | None = None
    """Answers by the class that they predict; None where it does not tell."""


@record
class _Account:
    """One arm."""

    past: Reading = Reading()
    """Of processes that began anew."""
    now: Mapping[str, Reading] = field(default_factory=dict)
    """The last reading of each process that was ever seen."""


class Ledger:
    """Sums by arm. Safe to use from many threads."""

    def __init__(self) -> None:
        self._accounts: dict[Place, _Account] = {}
        self._lock = threading.Lock()

    def put(self, place: Place, source: str, reading: Reading) -> None:
        """Take what `source` counts now."""
        with self._lock:
            account = self._accounts.get(place, _Account())
            before = account.now.get(source)
            past = account.past
            if before is not None and before.bounds != reading.bounds:
                account, past, before = _Account(), Reading(), None  # other buckets: nothing can be added
            if before is not None and fell(before, reading):
                past = added(past, before)
            self._accounts[place] = _Account(past=past, now={**account.now, source: reading})

    def total(self, place: Place, *, at: float) -> Counts | None:
        """All that an arm ever did, as far as it was seen; None where nothing was."""
        with self._lock:
            account = self._accounts.get(place)
        if account is None:
            return None
        total = reduce(added, account.now.values(), account.past)
        return Counts(
            at=at,
            requests=total.requests,
            errors=total.errors,
            latency=total.latency,
            bounds=total.bounds,
            classes=total.classes,
        )

    def close(self, key: str, *, alive: Collection[str]) -> None:
        """Close the books of processes that are gone for good; what they counted stays."""
        with self._lock:
            for place, account in self._accounts.items():
                if place[0] == key:
                    gone = [reading for source, reading in account.now.items() if source not in alive]
                    now = {source: reading for source, reading in account.now.items() if source in alive}
                    self._accounts[place] = _Account(past=reduce(added, gone, account.past), now=now)

    def forget(self, gone: Callable[[Place], bool]) -> None:
        """Drop the arms that `gone` names."""
        with self._lock:
            for place in [place for place in self._accounts if gone(place)]:
                del self._accounts[place]


def fell(before: Reading, now: Reading) -> bool:
    """Whether a process began anew."""
    return now.requests < before.requests or min(map(sub, now.latency, before.latency), default=0) < 0


def added(one: Reading, other: Reading) -> Reading:
    """Both together; an empty histogram adds nothing."""
    if not one.latency or not other.latency:
        latency, bounds = one.latency or other.latency, one.bounds or other.bounds
    else:
        latency, bounds = tuple(map(add, one.latency, other.latency)), one.bounds
    classes = None
    if one.classes is not None or other.classes is not None:
        mine, others = one.classes or {}, other.classes or {}
        classes = {label: mine.get(label, 0) + others.get(label, 0) for label in {**mine, **others}}
    return Reading(
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        latency=latency,
        bounds=bounds,
        classes=classes,
    )
