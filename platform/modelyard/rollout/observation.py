"""All that a decision sees, read once."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from modelyard.record import record
from modelyard.rollout.analysis import Evidence
from modelyard.rollout.pairs import Told
from modelyard.spec.deployment import Condition, DeploymentSpec, ModelDeployment
from modelyard.spec.rollout import ModelRollout
from modelyard.verdict import Reason, Verdict


@record
class Target:
    """What the wish names: resolved once, version and digest together."""

    version: str
    digest: str
    tags: Mapping[str, str] = field(default_factory=dict)


@record
class Stable:
    """What the newest successful attempt brought in: the arm that is trusted."""

    version: str
    digest: str
    arm: str
    serving: DeploymentSpec
    rollout: str
    """The attempt's name."""


@record
class Arm:
    """One side of a rollout, as it was observed."""

    name: str
    version: str
    digest: str
    replicas: int
    """Asked for; 0: it is being retired, and is seen until it is gone."""
    ready: int
    """Answered a real prediction since their last (re)start."""
    in_flight: int = 0
    """Requests that the arm is still answering."""
    failure: Verdict | None = None
    """Why it cannot become ready, when that is known. `Failed` ends the attempt at once and marks the version;
    `Inconclusive` (unschedulable, unpullable) is waited for until the progress deadline, and marks nothing."""
    rollout: str = ""
    """The attempt that last asked for it (`EnsureArm.rollout`)."""
    scaled: int = 0
    """Replicas that an autoscaler asks for now; 0 where none does. `replicas` is then the fewest it may ask for."""
    resource_version: str = ""
    """Changes with every `ensure` that changed something."""


@record
class Weights:
    """Whole percents by arm. Confirmed means read back from the router."""

    asked: Mapping[str, int] = field(default_factory=dict)
    """Empty: no traffic is routed."""
    confirmed: Mapping[str, int] | None = None
    """None: the router could not be read."""
    resource_version: str = ""
    """Changes with every `set_weights` that changed something; empty where nothing was ever asked."""


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
    classes: Mapping[str, int] | None = None
    """Answers by the class that they predict, since the router (or the arm's servers) started; None: not told."""


@record
class Still:
    """Since when an arm that gets no traffic has answered nothing."""

    requests: int | None
    """Its counter; None: missing."""
    since: float


@record
class Memory:
    """What a loop remembers between two looks. Losing it costs time, never safety."""

    rollout: str = ""
    """The attempt that `evidence` belongs to."""
    evidence: Evidence | None = None
    """Fresher than the checkpoint in the attempt's status."""
    still: Mapping[str, Still] = field(default_factory=dict)
    """By arm; only those that are on their way out."""
    read: str = ""
    """The attempt's resource version whose checkpoint has been weighed against `evidence`."""
    checkpoint: Evidence | None = None
    """The evidence in that version."""
    unready_since: float | None = None
    """Since when the canary has had no ready replica."""
    requests: int | None = None
    """The canary's counter before its first request of this attempt."""
    unseen_since: float | None = None
    """Since when an arm that has requests to answer has had no counters."""


REFUSED, TROUBLE = "Refused", "Trouble"
"""Reasons of the condition `Degraded`: the last look could not do what it decided, until a person does something, or
for a while."""


@record
class Trouble:
    """Why the last look could not do all that it decided."""

    message: str
    refused: bool = False
    """It is bad input: nothing changes until a person does something."""
    beside: bool = False
    """Only what follows the wish beside the rollout could not be done, such as an autoscaler; the rollout goes on."""


@record
class Observation:
    """The world at one moment."""

    now: float
    """Seconds since the epoch."""
    wish: ModelDeployment
    attempt: ModelRollout | None
    """The oldest attempt that has not ended; where all have, the newest."""
    attempts: int = 0
    """The highest number that an attempt's name has carried: the next one follows."""
    stable: Stable | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    """Arms that are not tried again until somebody asks: arm → name of the attempt that ended so."""
    forgettable: tuple[ModelRollout, ...] = ()
    """Ended attempts beyond `rollback.retain` that nothing needs any more."""
    followers: int = 1
    """Deployments that follow the same alias, this one included; counted where the alias might be moved."""
    target: Target | Verdict
    """What the alias names, or why that is unknown."""
    arms: Mapping[str, Arm] = field(default_factory=dict)
    weights: Weights = Weights()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    """Absent is missing, never zero."""
    told: Mapping[str, Told] = field(default_factory=dict)
    """Of the attempt's metrics that have a query, by metric."""
    checkpoint: Evidence | None = None
    """The attempt's evidence as its record has it, where that was read anew; `memory.evidence` is never older."""
    memory: Memory = Memory()
    trouble: Trouble | None = None


def trouble_of(wish: ModelDeployment) -> Condition | None:
    """What keeps the loop from doing what it decided, as the wish's status says; None: nothing."""
    said = (REFUSED, TROUBLE, Reason.REGISTRY_UNAVAILABLE)
    return next((c for c in wish.status.conditions if c.type == "Degraded" and c.reason in said), None)


def arm_name(digest: str, serving: DeploymentSpec) -> str:
    """The name of the arm that serves these bytes in this way: ten characters, good for a DNS label.

    Only what differs from the defaults enters the hash, so that a field that a later release adds renames nothing:
    an upgrade restarts no server.
    """
    pod = _without_defaults(serving.pod_template)
    said = json.dumps([digest, _without_defaults(serving.runtime), *([pod] if pod else [])], sort_keys=True)
    return "a" + hashlib.sha256(said.encode()).hexdigest()[:9]


def _without_defaults(value: Any) -> Any:
    if not dataclasses.is_dataclass(value):
        return value
    said = {}
    for each in dataclasses.fields(value):
        mine = getattr(value, each.name)
        default = each.default_factory() if callable(each.default_factory) else each.default
        if mine != default:
            said[each.name] = _without_defaults(mine)
    return said
