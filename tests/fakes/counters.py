"""Counters in memory: cumulative, by arm, with a fine histogram."""

import bisect
from collections.abc import Mapping

from modelyard.rollout.observation import Counts

BOUNDS = tuple(round(1.0 * 1.05**step, 4) for step in range(150))


class FakeCounters:
    """The `Counters` port. `serve` counts what an arm did."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Counts]] = {}
        self.missing = False

    def counts(self, key: str) -> Mapping[str, Counts]:
        return {} if self.missing else dict(self.seen.get(key, {}))

    # what happens in the world

    def serve(self, key: str, arm: str, *, at: float, requests: int, errors: int = 0, latency_ms: float = 20.0) -> None:
        """An arm answered so many requests, all in about the same time; `errors` of them failed."""
        assert 0 <= errors <= requests
        mine = self.seen.setdefault(key, {})
        before = mine.get(arm, Counts(at=at, requests=0, errors=0, latency=(0,) * (len(BOUNDS) + 1), bounds=BOUNDS))
        place = bisect.bisect_left(BOUNDS, latency_ms)
        answers = requests - errors
        latency = tuple(count + (answers if index >= place else 0) for index, count in enumerate(before.latency))
        mine[arm] = Counts(
            at=at, requests=before.requests + requests, errors=before.errors + errors, latency=latency, bounds=BOUNDS
        )
