"""What process 1 counts of each attempt that reaches its pod, as Prometheus reads it. No clock, no network."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

RATIO: Final = 1.049
"""Between neighbouring bounds: analysis refuses a margin that is finer."""
BOUNDS_S: Final = tuple(float(f"{0.0005 * RATIO**step:.6g}") for step in range(246))
"""Upper bounds of the histogram, half a millisecond to a minute."""
CLIENT_GONE: Final = 499
"""The code of an attempt that nobody waited for any more: a router that timed out, mostly."""


class Tally:
    """Attempts since this process started."""

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0
        self.in_flight = 0
        self.classes: Counter[str] = Counter()
        """Answers by the class that they predict, as the handler tells it: with %XX."""
        self.info: Mapping[str, Mapping[str, str]] = {}
        """What does not change while the process runs, such as the variant that serves: name → labels."""

    def ended(self, code: int, seconds: float) -> None:
        """An attempt ended; the time of one that was not answered says nothing about the model."""
        self.codes[code] += 1
        if code < CLIENT_GONE:
            self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
            self.seconds += seconds

    @property
    def attempts(self) -> int:
        """All that ended."""
        return self.codes.total()

    @property
    def errors(self) -> int:
        """Those that failed."""
        return sum(count for code, count in self.codes.items() if code >= 400)

    def text(self, gauges: Mapping[str, float]) -> str:
        """Prometheus' text format, version 0.0.4.

        Args:
            gauges: what else is known now, by name.
        """
        lines = ["# TYPE modelyard_attempts_total counter"]
        lines += [f'modelyard_attempts_total{{code="{code}"}} {count}' for code, count in sorted(self.codes.items())]
        lines += ["# TYPE modelyard_attempt_errors_total counter", f"modelyard_attempt_errors_total {self.errors}"]
        lines += ["# TYPE modelyard_predictions_total counter"]
        lines += [
            f'modelyard_predictions_total{{class="{one}"}} {count}' for one, count in sorted(self.classes.items())
        ]
        lines += ["# TYPE modelyard_answer_duration_seconds histogram"]
        bounds = (*(f"{bound:g}" for bound in BOUNDS_S), "+Inf")
        for bound, count in zip(bounds, accumulate(self.buckets), strict=True):
            lines.append(f'modelyard_answer_duration_seconds_bucket{{le="{bound}"}} {count}')
        lines.append(f"modelyard_answer_duration_seconds_sum {self.seconds:.6f}")
        lines.append(f"modelyard_answer_duration_seconds_count {sum(self.buckets)}")
        for name, value in {"modelyard_in_flight": self.in_flight, **gauges}.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:.10g}"]
        for name, labels in self.info.items():
            told = ",".join(f'{label}="{value}"' for label, value in labels.items())
            lines += [f"# TYPE {name} gauge", f"{name}{{{told}}} 1"]
        return "\n".join(lines) + "\n"
