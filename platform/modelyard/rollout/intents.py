"""What a decision wants done. Each is idempotent; they are applied in order until a conflict.

`expected` is the resource version of the part as the decision saw it (empty: it was not there). A part that changed
since raises Conflict: so a loop that slept through another one's acts cannot undo them.
"""

from collections.abc import Mapping
from dataclasses import field

from modelyard.record import record
from modelyard.rollout.analysis import Evidence
from modelyard.rollout.observation import Memory
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment
from modelyard.spec.rollout import ModelRollout


@record
class Record:
    """Write a record, if it is still at the resource version that was read (empty: make it)."""

    record: ModelDeployment | ModelRollout
    evidence: Evidence | None = None
    """To be stored as the attempt's `status.analysis`."""


@record
class Forget:
    """Remove the record of an attempt that ended long ago."""

    record: ModelRollout


@record
class EnsureArm:
    """Let an arm exist with this many replicas."""

    name: str
    version: str
    digest: str
    replicas: int
    serving: DeploymentSpec
    rollout: str
    """The attempt that wants it; kept with the arm, so that a late `retire` of an earlier attempt is refused."""
    expected: str = ""


@record
class SetWeights:
    """Share the traffic: whole percents that sum to 100, or nothing at all to route none."""

    weights: Mapping[str, int]
    expected: str = ""


@record
class RetireArm:
    """Drain an arm and remove it."""

    name: str
    expected: str = ""


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
    moments: Mapping[str, float] = field(default_factory=dict)
    """Tags that are times, seconds since the epoch: in the registry RFC 3339."""


Intent = Record | Forget | EnsureArm | SetWeights | RetireArm | MoveAlias | TagVersion


@record
class Decision:
    """What to do now, and when to look again."""

    intents: tuple[Intent, ...] = ()
    look_again_at: float | None = None
    """Seconds since the epoch; not later than now: at once; None: only when something changes."""
    memory: Memory = Memory()
