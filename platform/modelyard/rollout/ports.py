"""The world that the loop acts on: records, registry, arms, router, counters.

The laptop and the cluster each implement these; a fake of each, in `tests/fakes`, passes the same contract tests.
`key` is `namespace/name` of a ModelDeployment.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from modelyard.registry.port import Followed
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.observation import Arm, Counts, Memory, Trouble, Weights
from modelyard.rollout.pairs import Told
from modelyard.spec.deployment import Analysis, ModelDeployment
from modelyard.spec.rollout import ModelRollout


class Records(Protocol):
    """Wishes and attempts, with optimistic concurrency."""

    def keys(self) -> tuple[str, ...]:
        """All ModelDeployments."""

    def deployment(self, key: str) -> ModelDeployment | None:
        """The wish, or None when it was deleted."""

    def rollouts(self, key: str) -> tuple[ModelRollout, ...]:
        """Its attempts, oldest first."""

    def write(self, record: ModelDeployment | ModelRollout) -> ModelDeployment | ModelRollout:
        """Store `record` and give it back with its new resource version (and generation, if `spec` changed).

        A write makes a record (with the status that it has by default), or changes its spec or its status, never both:
        that is all that a Kubernetes API can do at once. What is already so is not written: the resource version stays.

        Raises:
            Conflict: it is not at `record.metadata.resource_version` any more (empty: it exists already; gone: too).
        """

    def delete(self, record: ModelDeployment | ModelRollout) -> None:
        """Remove it; nothing when it is gone."""


class Arms(Protocol):
    """Servers of one version each."""

    def arms(self, key: str) -> Mapping[str, Arm]:
        """All arms of a deployment, as observed now."""

    def ensure(self, key: str, arm: EnsureArm) -> None:
        """Start what is missing, stop what is too many; returns before it is ready.

        Only bytes whose digest was verified are served. `arm.rollout` is kept and read back as `Arm.rollout`;
        `arm.serving` counts when the arm is made, later only `replicas` and `rollout` can change.

        Raises:
            Conflict: the arm is not at `arm.expected` any more (empty: there is one already).
        """

    def retire(self, key: str, name: str, *, expected: str) -> None:
        """Drain and stop; nothing when it is gone.

        Raises:
            Conflict: the arm is not at resource version `expected` any more.
        """


class Router(Protocol):
    """Where traffic goes."""

    def weights(self, key: str) -> Weights:
        """What was asked and what the router says it does."""

    def set_weights(self, key: str, weights: Mapping[str, int], *, expected: str) -> None:
        """Ask for these shares: whole percents that sum to 100, arms at 0 included; or none, and nothing is routed.

        Raises:
            Conflict: the weights are not at resource version `expected` any more.
        """


class Counters(Protocol):
    """What clients saw of each arm."""

    def counts(self, key: str) -> Mapping[str, Counts]:
        """Cumulative counters by arm; an arm without data is absent."""


class Queries(Protocol):
    """What others count of each arm, for metrics that have a query."""

    def told(self, key: str, analysis: Analysis, arms: Collection[str]) -> Mapping[str, Told]:
        """By metric. Counts only grow; an arm of which nothing is known is absent, never zero. Never raises."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One world, and what the loop that looks at it remembers."""

    records: Records
    registry: Followed
    arms: Arms
    router: Router
    counters: Counters
    queries: Queries | None = None
    """None: nobody can be asked."""
    memory: dict[str, Memory] = field(default_factory=dict)
    """By key. Losing it costs time, never safety: what must last is in the records."""
    troubles: dict[str, Trouble] = field(default_factory=dict)
    """By key: why the last look did not come to its end."""
