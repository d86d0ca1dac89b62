"""ModelDeployment: the wish. Also the `deployment` section of a project. No floats: units are strings."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from modelyard.record import record
from modelyard.spec.metadata import API_VERSION, Metadata
from modelyard.units import Duration, Percentage


@record
class RegistryRef:
    """A ModelRegistry in the same namespace."""

    name: str = "main"


@record
class Verification:
    """What must be true of an archive before it serves, beside its digest."""

    signature: Literal["Required", "IfPresent"] = "IfPresent"


@record
class ModelRef:
    """What is to be served: exactly one of alias and version."""

    name: str
    alias: str | None = None
    version: str | None = None
    registry_ref: RegistryRef = RegistryRef()
    verification: Verification = Verification()


@record
class TorchServe:
    """Settings of TorchServe."""

    workers: int = 1
    """Processes in each server."""
    batch_size: int = 1
    """Requests answered together."""
    max_batch_delay: Duration = Duration("20ms")
    """How long a request waits for others to join its batch."""
    response_timeout: Duration = Duration("10s")
    """After this a worker is taken for hung and is replaced."""


@record
class Runtime:
    """The server. A union by `type`."""

    type: Literal["TorchServe"] = "TorchServe"
    """Which server."""
    torch_serve: TorchServe = TorchServe()


@record
class SetWeight:
    """Send this share of the traffic, in whole percents, to the canary."""

    set_weight: int
    """From 0 to 100."""


@record
class Pause:
    """Wait this long, or without a duration until somebody resumes."""

    duration: Duration | None = None
    """How long; until somebody resumes when absent."""


@record
class PauseStep:
    """A wait."""

    pause: Pause
    """Wait here."""


@record
class AnalysisGate:
    """Wait for the analysis' verdict, at these margins instead of the metrics' own."""

    margins: Mapping[str, Percentage] = field(default_factory=dict)
    """Metric → margin, instead of the metric's own."""


@record
class AnalysisStep:
    """A wait for the verdict. The analysis itself runs all the time."""

    analysis: AnalysisGate
    """Go on when the analysis is Successful."""


Step = SetWeight | PauseStep | AnalysisStep


@record
class Canary:
    """The steps on the way to 100 %."""

    steps: tuple[Step, ...] = (
        SetWeight(set_weight=5),
        AnalysisStep(analysis=AnalysisGate(margins={"error-rate": Percentage("5%")})),
        SetWeight(set_weight=50),
        AnalysisStep(analysis=AnalysisGate()),
    )
    """Walked in order; then the new version gets all traffic."""
    progress_deadline: Duration = Duration("15m")
    """How long an arm may take until it is ready."""


@record
class Strategy:
    """How a new version comes in. A union by `type`."""

    type: Literal["Canary"] = "Canary"
    """Which way."""
    canary: Canary = Canary()


@record
class MetricMargin:
    """How much worse than stable is still as good."""

    type: Literal["Absolute", "Relative"]
    """`Absolute`: percentage points. `Relative`: a share of stable's value."""
    value: Percentage
    """How much."""


@record
class AnalysisMetric:
    """One comparison of canary and stable: `error-rate`, or `latency-pNN`."""

    name: str
    """`error-rate`, or `latency-pNN`."""
    margin: MetricMargin
    """How much worse than stable is still as good."""


@record
class Analysis:
    """The live comparison."""

    false_alarm_rate: Percentage = Percentage("1%")
    """Risk of aborting a version that is as good."""
    miss_rate: Percentage = Percentage("5%")
    """Risk of Successful for one that is worse than a margin."""
    metrics: tuple[AnalysisMetric, ...] = (
        AnalysisMetric(name="error-rate", margin=MetricMargin(type="Absolute", value=Percentage("1%"))),
        AnalysisMetric(name="latency-p90", margin=MetricMargin(type="Relative", value=Percentage("50%"))),
    )
    """What is compared."""
    min_requests: int = 30
    """On each arm, before any verdict."""
    warmup_requests: int = 10
    """First requests of a new arm that enter no comparison."""
    max_duration: Duration = Duration("30m")
    """When it ends as `onInconclusive` says, without a verdict until then."""
    on_inconclusive: Literal["Rollback", "Pause"] = "Rollback"
    """What to do without a verdict in time. Never promotes."""


@record
class Traffic:
    """What the router does beside weights."""

    port: int | None = None
    """Laptop: a port of its own for this model, beside the one that all models share."""
    timeout: Duration = Duration("15s")
    """After this the client is answered with an error. Each attempt may take an equal part of it."""
    retries: int = 1
    """Within one arm, by another replica where there is one; each failed attempt counts as an error of that arm."""


@record
class Rollback:
    """What happens after a failed rollout."""

    alias: Literal["Keep", "Restore"] = "Keep"
    """`Restore` puts the alias back if nobody moved it since; only where this is its one follower."""
    retain: int = 3
    """Old attempts whose records are kept."""


@record
class DeploymentSpec:
    """What is wished."""

    model: ModelRef
    runtime: Runtime = Runtime()
    replicas: int = 1
    """Servers of the arm that has all traffic."""
    strategy: Strategy = Strategy()
    analysis: Analysis = Analysis()
    traffic: Traffic = Traffic()
    rollback: Rollback = Rollback()
    paused: bool = False
    """Hold: no step is taken, nothing is undone."""


@record
class StableStatus:
    """The arm that is trusted, as it was observed."""

    version: str
    digest: str
    arm: str
    ready_replicas: int = 0


@record
class Condition:
    """A condition by Kubernetes' conventions."""

    type: Literal["Ready", "Progressing", "Degraded", "Verified"]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: float = 0.0
    """Seconds since the epoch; moves only when `status` flips."""


@record
class DeploymentStatus:
    """What was observed."""

    observed_generation: int = 0
    stable: StableStatus | None = None
    alias: Mapping[str, Any] = field(default_factory=dict)
    """The alias as last observed: `{name, version, observedAt}`."""
    rollout: str | None = None
    """Name of the current or last attempt."""
    conditions: tuple[Condition, ...] = ()


@record
class ModelDeployment:
    """The wish and what came of it."""

    metadata: Metadata
    spec: DeploymentSpec
    status: DeploymentStatus = DeploymentStatus()
    api_version: Literal["modelyard.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelDeployment"] = "ModelDeployment"
