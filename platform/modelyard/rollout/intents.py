"""What a decision wants done. Each is idempotent; they are applied in order until a conflict."""

from collections.abc import Mapping

from modelyard.record import record
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment
from modelyard.spec.rollout import ModelRollout


@record
class Record:
    """Write a record, if it is still at the resource version that was read (empty: make it)."""

    record: ModelDeployment | ModelRollout


@record
class EnsureArm:
    """Let an arm exist with this many replicas."""

    name: str
    version: str
    digest: str
    replicas: int
    serving: DeploymentSpec


@record
class SetWeights:
    """Share the traffic: whole percents that sum to 100."""

    weights: Mapping[str, int]


@record
class RetireArm:
    """Drain an arm and remove it."""

    name: str


@record
class MoveAlias:
    """Let the alias name another version, unless somebody moved it since."""

    model: str
    alias: str
    version: str
    expected: str


@record
class TagVersion:
    """Say on the version what came of it."""

    model: str
    version: str
    tags: Mapping[str, str]


Intent = Record | EnsureArm | SetWeights | RetireArm | MoveAlias | TagVersion


@record
class Decision:
    """What to do now, and when to look again."""

    intents: tuple[Intent, ...] = ()
    look_again_at: float | None = None
    """Seconds since the epoch; None: only when something changes."""
