"""Counters in memory: cumulative, by arm, with a fine histogram."""

import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import add

from modelyard.rollout.observation import Counts

BOUNDS = tuple(round(1.0 * 1.05**step, 4) for step in range(150))
SPREAD = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.5)
"""Times of ten equal parts of the answers, in units of the arm's own."""


@lru_cache(maxsize=4096)
def _times(answers: int, latency_ms: float) -> tuple[int, ...]:
    """What so many answers add to each bucket, which counts all that were at most so slow."""
    latency = [0] * (len(BOUNDS) + 1)
    for part, factor in enumerate(SPREAD):
        count = answers * (part + 1) // len(SPREAD) - answers * part // len(SPREAD)
        for index in range(bisect.bisect_left(BOUNDS, latency_ms * factor), len(latency)):
            latency[index] += count
    return tuple(latency)


class FakeCounters:
    """The `Counters` port. `serve` counts what an arm did."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Counts]] = {}
        self.missing = False

    def counts(self, key: str) -> Mapping[str, Counts]:
        return {} if self.missing else dict(self.seen.get(key, {}))

    # what happens in the world

    def serve(
        self,
        key: str,
        arm: str,
        *,
        at: float,
        requests: int,
        errors: int = 0,
        latency_ms: float = 20.0,
        classes: Sequence[str] = (),
    ) -> None:
        """An arm answered so many requests in times around the given one; `errors` of them failed.

        The first answers predict `classes`, one each.
        """
        assert 0 <= errors <= requests
        mine = self.seen.setdefault(key, {})
        before = mine.get(arm, Counts(at=at, requests=0, errors=0, latency=(0,) * (len(BOUNDS) + 1), bounds=BOUNDS))
        latency = map(add, before.latency, _times(requests - errors, latency_ms))
        mine[arm] = Counts(
            at=at,
            requests=before.requests + requests,
            errors=before.errors + errors,
            latency=tuple(latency),
            bounds=BOUNDS,
            classes=dict(Counter(before.classes or {}) + Counter(classes)),
        )
