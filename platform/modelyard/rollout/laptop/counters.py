"""What clients saw of each arm, from Envoy's own statistics of attempts.

An error is a failed attempt: answered with 4xx or 5xx, reset, timed out, not connected, or not even tried since the
arm had no server left. Clients' own mistakes (4xx) fall on both arms alike, for the router deals out by chance;
a canary that refuses what stable accepts would look healthy if they were left out. An attempt that the client itself
gave up is neither request nor error.
"""

import re
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate
from typing import Any
from urllib.parse import unquote

from modelyard.errors import Unavailable
from modelyard.rollout.analysis import LATENCY_BOUNDS_MS
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.rollout.observation import Counts

_ENDED = re.compile(r"attempts\.ended\.arm\.(.+)\.code\.(\d+)\.flags\.(.*)")
_PREDICTED = re.compile(r"attempts\.predicted\.arm\.(.+)\.class\.([^.-]+)")
"""Answers by their class; those without one are counted under `-`."""
_TIME = re.compile(r"attempts\.time\.arm\.(.+)")
_UNTRIED = re.compile(r"cluster\.(.+)\.upstream_(?:cx_none_healthy|rq_timeout)")
"""No server was left to try, or the whole request's time was over: the attempt's own log then says nothing of it."""
_PATTERN = r"^attempts\.(ended|predicted|time)\.|^cluster\..*\.upstream_(cx_none_healthy|rq_timeout)$"


class EnvoyCounters:
    """`Counters` of one Envoy. They start at zero when Envoy does."""

    def __init__(self, router: EnvoyRouter) -> None:
        self._router = router

    def counts(self, key: str) -> Mapping[str, Counts]:
        """Counters by arm. Empty when Envoy is away; an arm that it does not know is absent."""
        try:
            answer = self._router.envoy.read(
                "/stats", format="json", filter=_PATTERN, histogram_buckets="detailed", type="All"
            )
        except Unavailable:
            return {}
        prefix = f"{key}/"
        return {
            name.removeprefix(prefix): counts
            for name, counts in counts_in(answer, at=time.time()).items()
            if name.startswith(prefix)
        }


def counts_in(answer: Mapping[str, Any], *, at: float) -> dict[str, Counts]:
    """Counts by cluster from Envoy's answer to `/stats?format=json&histogram_buckets=detailed`. Pure."""
    requests: dict[str, int] = defaultdict(int)
    errors: dict[str, int] = defaultdict(int)
    times: dict[str, tuple[int, ...]] = {}
    classes: dict[str, dict[str, int]] = defaultdict(dict)
    known = set()
    for item in answer["stats"]:
        name, value = item.get("name", ""), int(item.get("value", 0))
        if found := _UNTRIED.fullmatch(name):
            known.add(found[1])
            requests[found[1]] += value
            errors[found[1]] += value
        elif found := _ENDED.fullmatch(name):
            cluster, code, flags = found[1], int(found[2]), found[3]
            failed = code >= 400 or flags != "-"
            if code > 0 or failed:
                requests[cluster] += value
                errors[cluster] += value * failed
        elif found := _PREDICTED.fullmatch(name):
            classes[found[1]][unquote(found[2])] = value
        for detail in item.get("histograms", {}).get("details", []):
            if found := _TIME.fullmatch(detail["name"]):
                times[found[1]] = _cumulative(detail["totals"])
    nothing = (0,) * (len(LATENCY_BOUNDS_MS) + 1)
    return {
        cluster: Counts(
            at=at,
            requests=requests[cluster],
            errors=errors[cluster],
            latency=times.get(cluster, nothing),
            bounds=LATENCY_BOUNDS_MS,
            classes=classes[cluster],
        )
        for cluster in known
    }


def _cumulative(bins: list[Mapping[str, float]]) -> tuple[int, ...]:
    """Bins `[lower_bound, lower_bound + width)` in microseconds as counts at most as slow as each bound."""
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for each in bins:
        upper_ms = (each["lower_bound"] + each["width"]) / 1000
        # The binary fraction of 1.1 is not 1100 / 1000: compare a hair below the bin's upper end.
        counts[bisect_left(LATENCY_BOUNDS_MS, upper_ms * (1 - 1e-9))] += int(each["count"])
    return tuple(accumulate(counts))
