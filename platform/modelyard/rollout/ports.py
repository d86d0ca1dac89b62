"""The world that the loop acts on: records, registry, arms, router, counters.

The laptop and the cluster each implement these; a fake of each, in `tests/fakes`, passes the same contract tests.
`key` is `namespace/name` of a ModelDeployment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from modelyard.registry.port import Registry
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.observation import Arm, Counts, Weights
from modelyard.spec.deployment import ModelDeployment
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

        Raises:
            Conflict: it is not at `record.metadata.resource_version` any more (empty: it exists already).
        """

    def delete(self, record: ModelDeployment | ModelRollout) -> None:
        """Remove it; nothing when it is gone."""


class Arms(Protocol):
    """Servers of one version each."""

    def arms(self, key: str) -> Mapping[str, Arm]:
        """All arms of a deployment, as observed now."""

    def ensure(self, key: str, arm: EnsureArm) -> None:
        """Start what is missing; returns before it is ready. Only bytes whose digest was verified are served."""

    def retire(self, key: str, name: str) -> None:
        """Drain and stop; nothing when it is gone."""


class Router(Protocol):
    """Where traffic goes."""

    def weights(self, key: str) -> Weights:
        """What was asked and what the router says it does."""

    def set_weights(self, key: str, weights: Mapping[str, int]) -> None:
        """Ask for these shares."""


class Counters(Protocol):
    """What clients saw of each arm."""

    def counts(self, key: str) -> Mapping[str, Counts]:
        """Cumulative counters by arm; an arm without data is absent."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One world."""

    records: Records
    registry: Registry
    arms: Arms
    router: Router
    counters: Counters
