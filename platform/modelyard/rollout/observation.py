"""All that a decision sees, read once."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from modelyard.record import record
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.rollout import ModelRollout
from modelyard.verdict import Verdict


@record
class Target:
    """What the alias names: resolved once, version and digest together."""

    version: str
    digest: str
    tags: Mapping[str, str] = field(default_factory=dict)


@record
class Arm:
    """One side of a rollout, as it was observed."""

    name: str
    version: str
    digest: str
    replicas: int
    """Asked for."""
    ready: int
    """Answered a real prediction since their last (re)start."""
    in_flight: int = 0
    """Requests that the arm is still answering."""
    failure: Verdict | None = None
    """Why it cannot become ready, when that is known."""


@record
class Weights:
    """Whole percents by arm. Confirmed means read back from the router."""

    asked: Mapping[str, int] = field(default_factory=dict)
    confirmed: Mapping[str, int] | None = None
    """None: the router could not be read."""


@record
class Counts:
    """Counters of one arm since the router started: cumulative, never a rate.

    An error is a failed *attempt*: a retry that saved the client still counts.
    """

    at: float
    requests: int
    """Attempts that ended."""
    errors: int
    """Failed attempts."""
    latency: tuple[int, ...] = ()
    """Answers at most as slow as each bound: cumulative over bounds, like Prometheus' `le`; the last is +Inf."""
    bounds: tuple[float, ...] = ()
    """Upper bounds in milliseconds, without the last (+Inf)."""


@record
class Observation:
    """The world at one moment."""

    now: float
    """Seconds since the epoch."""
    wish: ModelDeployment
    attempt: ModelRollout | None
    """The newest attempt, ended or not."""
    attempts: int = 0
    """How many there have been: the next one's number follows."""
    failed: Mapping[str, Any] = field(default_factory=dict)
    """Arms whose attempt failed and that nobody asked to retry: arm → attempt's name."""
    target: Target | Verdict
    arms: Mapping[str, Arm] = field(default_factory=dict)
    weights: Weights = Weights()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    """Absent is missing, never zero."""
