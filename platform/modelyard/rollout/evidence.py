"""What the analysis keeps between two looks: records of a size that does not grow with the number of requests."""

from collections.abc import Mapping
from dataclasses import field

from modelyard.record import record
from modelyard.rollout.streams import Stream
from modelyard.units import Percentage

HISTORY = 200
"""Marks that are kept for plots."""
SURGE = 10.0
"""Hits beyond the margin after which a canary is beyond it whatever its past: it may have turned bad."""


@record
class Alarm:
    """The E-process against "the canary is as good" of one metric: a mixture over bets and over times of beginning."""

    metric: str
    blocks: int = 0
    logs: tuple[float, ...] = ()
    """Logarithm of each bet's process, with its share of the stake."""
    log_e: float = 0.0


@record
class Trial:
    """The E-process against "the canary is worse by at least the margin" of one metric at one margin."""

    metric: str
    margin: Percentage
    log_e: float = 0.0
    logs: tuple[float, ...] = ()
    """With `bursts`: logarithm of each stake's process."""
    excess: float = 0.0
    """Sum over blocks of weight × (canary's share − what the margin allows); older blocks fade."""
    weight: float = 0.0
    surge: float = 0.0
    """The canary's hits beyond what the margin allows, since the moment at which that sum was lowest."""
    sums: tuple[float, ...] = ()
    """Of prediction drift: for each class, the sum over blocks of weight × (canary's share − stable's)."""

    @property
    def beyond(self) -> bool:
        """Whether the best estimate is that the canary is worse than the margin allows: on average, or of late."""
        return self.excess > 0 or self.surge >= SURGE


@record
class Tally:
    """What is shown of a metric: requests and hits of both arms in all blocks. No test uses these totals."""

    stable: int = 0
    stable_hits: int | float = 0
    canary: int = 0
    canary_hits: int | float = 0
    bound: float = 0.0
    """Latency: the bound in milliseconds beyond which an answer is a hit."""

    @property
    def stable_share(self) -> float:
        """Share of stable's requests that were hits."""
        return self.stable_hits / max(1, self.stable)

    @property
    def canary_share(self) -> float:
        """Share of the canary's requests that were hits."""
        return self.canary_hits / max(1, self.canary)


@record
class Mark:
    """A point of a metric's history, for plots: natural logarithms of both E-processes, and both arms' shares."""

    at: float
    metric: str
    stable: float
    canary: float
    alarm: float
    success: float
    stable_requests: int
    canary_requests: int


@record
class Drift:
    """How far the arms' predicted classes are apart, as an estimate: older blocks fade."""

    labels: tuple[str, ...] = ()
    """All classes seen, in the order of the counts."""
    sums: tuple[float, ...] = ()
    """For each class, the sum over blocks of weight × (canary's share − stable's)."""
    weight: float = 0.0


@record
class Evidence:
    """All that is known of one canary. Its JSON is the checkpoint in the attempt's status."""

    began_at: float
    attempts: Stream
    """Of error rates."""
    answers: Stream
    """Of latencies."""
    alarms: tuple[Alarm, ...]
    trials: tuple[Trial, ...] = ()
    rails: tuple[Alarm, ...] = ()
    """Of guardrails, against "the canary is within its limit"."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    predictions: Stream = field(default_factory=Stream)
    """Of predicted classes."""
    drift: Drift = field(default_factory=Drift)
    pairs: Mapping[str, Stream] = field(default_factory=dict)
    """Of metrics that have a source of their own (`modelyard.rollout.pairs`), by name."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why such a source gave nothing at the last look, by metric."""
    ignored: int = 0
    """Readings that made no sense."""
    history: tuple[Mark, ...] = ()

    def alarm(self, metric: str) -> Alarm:
        """The alarm of a metric."""
        return next(one for one in self.alarms if one.metric == metric)

    def trial(self, metric: str, margin: Percentage) -> Trial | None:
        """The test of a metric at a margin."""
        return next((one for one in self.trials if one.metric == metric and one.margin == margin), None)

    def stream(self, metric: str) -> Stream:
        """Where a metric's counts come from."""
        if metric in self.pairs:
            return self.pairs[metric]
        if metric == "prediction-drift":
            return self.predictions
        return self.attempts if metric == "error-rate" else self.answers

    @property
    def opened_at(self) -> float:
        """When the newest open block began: of two that know the same attempt, the later one knows more."""
        streams = (self.attempts, self.answers, self.predictions, *self.pairs.values())
        return max(stream.opened_at for stream in streams)

    def counted(self, metric: str) -> int:
        """Requests that entered a metric's comparison, on the arm that had fewer."""
        stream = self.stream(metric)
        return min(stream.stable.counted, stream.canary.counted)


def thinned(history: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """At most `HISTORY` marks: where there are more, every second moment goes; the newest stays."""
    if len(history) <= HISTORY:
        return history
    moments = sorted({mark.at for mark in history}, reverse=True)
    kept = set(moments[::2])
    return tuple(mark for mark in history if mark.at in kept)[-HISTORY:]
