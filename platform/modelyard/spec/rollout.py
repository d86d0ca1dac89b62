"""ModelRollout: one attempt to bring one version in. Made by the loop; people set three switches."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, Literal

from modelyard.record import record
from modelyard.spec.deployment import DeploymentSpec, Step
from modelyard.spec.metadata import API_VERSION, Metadata
from modelyard.units import Moment
from modelyard.verdict import Verdict


class Phase(StrEnum):
    """Where an attempt stands. The table of transitions is `modelyard.rollout.states`."""

    PENDING = "Pending"
    """Recorded; nothing was started."""
    STARTING = "Starting"
    """The canary's arm is being made ready."""
    PROGRESSING = "Progressing"
    """Steps are being walked."""
    PROMOTING = "Promoting"
    """All traffic goes to the new arm; the old one is draining."""
    ROLLING_BACK = "RollingBack"
    """Weight goes back to stable; alias and tags follow."""
    SUCCESSFUL = "Successful"
    FAILED = "Failed"


@record
class RolloutSpec:
    """Frozen when the attempt is made, but for the three switches."""

    deployment: str
    """The ModelDeployment that it is an attempt of."""
    version: str
    """The version in the registry."""
    digest: str
    """sha256 of the archive."""
    arm: str
    """Hash of the digest and the serving spec."""
    serving: DeploymentSpec
    """The wish as it stood: steps, analysis and runtime of this attempt."""
    previous: Mapping[str, Any] = field(default_factory=dict)
    """Stable when the attempt began: `{version, digest, arm}`; empty for the first."""
    wished: str = ""
    """The arm that the wish named when this attempt was made; once it names a third one, this attempt is superseded."""
    steps: tuple[Step, ...] = ()
    """The steps on the way to 100 %; none for the first version."""
    resumed: int = -1
    """Pause steps without a duration are over up to this index: `rollout resume` sets it."""
    paused: bool = False
    """Hold this attempt: no step is taken."""
    abort: bool = False
    """Go back to stable."""
    promote: bool = False
    """Skip all waits and send everything to the new version."""


@record
class RolloutWeights:
    """Shares in whole percents by arm."""

    asked: Mapping[str, int] = field(default_factory=dict)
    """What the router was asked for."""
    confirmed: Mapping[str, int] = field(default_factory=dict)
    """What the router says it does."""


@record
class RolloutStatus:
    """What was observed and decided."""

    phase: Phase = Phase.PENDING
    """Where it stands."""
    step: int = 0
    """Steps done."""
    step_since: Moment = 0.0
    """When the current step began."""
    started_at: Moment = 0.0
    """When the attempt began."""
    ended_at: Moment | None = None
    """When it came to its end."""
    updated_at: Moment = 0.0
    """When this status was last written."""
    paused_since: Moment | None = None
    """Since when `spec.paused` has been observed; the time of the step does not run meanwhile."""
    weights: RolloutWeights = RolloutWeights()
    """Shares of the traffic."""
    analysis: Mapping[str, Any] = field(default_factory=dict)
    """The evidence's checkpoint (`modelyard.rollout.analysis.Evidence` as JSON)."""
    passed: Verdict | None = None
    """The last `Successful` of the analysis, at the step's margins."""
    verdict: Verdict | None = None
    """What the attempt came to; also, before its end, why it is held (`onInconclusive: Pause`)."""
    alias: Mapping[str, Any] = field(default_factory=dict)
    """`{before, after}`: the version that the alias named before this attempt, and after its rollback."""
    timeline: tuple[Mapping[str, Any], ...] = ()
    """What happened when: `{at, event, message}`; bounded."""


@record
class ModelRollout:
    """One attempt."""

    metadata: Metadata
    spec: RolloutSpec
    status: RolloutStatus = RolloutStatus()
    api_version: Literal["modelyard.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelRollout"] = "ModelRollout"
