"""ModelDeployment: the wish. Also the `deployment` section of a project. No floats: units are strings."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from modelyard.record import record
from modelyard.spec.metadata import API_VERSION, Metadata
from modelyard.units import Duration, Moment, Percentage, Quantity


@record
class RegistryRef:
    """A ModelRegistry in the same namespace."""

    name: str = "main"
    """Its name."""


@record
class Verification:
    """What must be true of an archive before it serves, beside its digest."""

    signature: Literal["Required", "IfPresent"] = "IfPresent"
    """`Required`: an archive without a valid signature never serves. `IfPresent`: it may have none."""
    trusted_keys: tuple[str, ...] = ()
    """Cluster: public keys (ed25519, base64) of which one must have signed; a laptop trusts its own. Without any,
    `IfPresent` checks the digest alone."""


@record
class ModelRef:
    """What is to be served: exactly one of alias and version."""

    name: str
    """The registered model."""
    alias: str | None = None
    """The alias that is followed, like `champion`."""
    version: str | None = None
    """The version that is pinned, like `"7"`, instead of an alias."""
    registry_ref: RegistryRef = RegistryRef()
    """Where versions come from."""
    verification: Verification = Verification()
    """What must be true of an archive before it serves."""


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
    """With `type: TorchServe`."""


@record
class PodMetadata:
    """What is said about each pod, beside our own labels."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """More labels. Those of Kubernetes (`app.kubernetes.io/…`) and `modelyard.dev/…` are ours."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """More annotations."""


@record
class PodTemplate:
    """Cluster: what each server's pod has beside what we render."""

    metadata: PodMetadata = PodMetadata()
    """Labels and annotations."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a core/v1 PodSpec: `nodeSelector`, `tolerations`, `imagePullSecrets`, …; the container named `server`
    takes `resources`, `env`, `image` and the like. What would break ours (command, ports, probes, …) is refused."""


@record
class CPUMetric:
    """CPU time of the pods, by the metrics server."""

    average_utilization: int = 70
    """Percent of the pods' CPU request."""


@record
class GPUMetric:
    """Utilization of the GPUs, where a metrics adapter gives it as a metric of pods."""

    average_utilization: int = 70
    """Percent."""
    metric: str = "DCGM_FI_DEV_GPU_UTIL"
    """The metric's name."""


@record
class QueueLatencyMetric:
    """How long requests wait for a worker, where a metrics adapter gives it as a metric of pods."""

    average: Duration = Duration("50ms")
    """At most this, on average over the pods."""
    metric: str = "modelyard_queue_latency_seconds"
    """The metric's name; ours by default."""


@record
class PrometheusMetric:
    """The answer of a query, by KEDA."""

    server_address: str
    """`http://…`"""
    query: str
    """PromQL that gives one number."""
    threshold: Quantity
    """The value that one replica is worth."""


@record
class ScalingMetric:
    """What decides the number of replicas. A union by `type`."""

    type: Literal["CPU", "GPU", "QueueLatency", "Prometheus"] = "CPU"
    """`Prometheus` is scaled by KEDA, the others by a HorizontalPodAutoscaler."""
    cpu: CPUMetric | None = None
    """With `type: CPU`."""
    gpu: GPUMetric | None = None
    """With `type: GPU`."""
    queue_latency: QueueLatencyMetric | None = None
    """With `type: QueueLatency`."""
    prometheus: PrometheusMetric | None = None
    """With `type: Prometheus`."""


@record
class Autoscaling:
    """Replicas by load. A laptop runs `minReplicas`."""

    max_replicas: int
    """At most so many for each arm."""
    min_replicas: int = 1
    """At least so many for the arm that has all traffic."""
    metric: ScalingMetric = ScalingMetric()
    """What decides."""


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
    """With `type: Canary`."""


@record
class MetricMargin:
    """How much worse than stable is still as good."""

    type: Literal["Absolute", "Relative"]
    """`Absolute`: percentage points. `Relative`: a share of stable's value."""
    value: Percentage
    """How much."""


@record
class MetricQuery:
    """Counters that a Prometheus has of each arm, in PromQL.

    `$arm` stands for the arm's name, which each answer carries in the header `x-modelyard-arm`. Counters as they are,
    without `rate` and without `sum`: each series is watched for restarts by itself, then they are added up.
    """

    total: str
    """Requests that were judged."""
    failures: str | None = None
    """Those of them that were bad. Exactly one of `failures` and `sum`."""
    sum: str | None = None
    """The sum of a value that each of them has, larger being worse; with `bounds`."""
    bounds: tuple[Quantity, ...] = ()
    """With `sum`: the smallest and the largest value that one request can have, like `["0", "5"]`."""


@record
class AnalysisMetric:
    """One comparison of canary and stable: `error-rate`, `latency-pNN`, `prediction-drift`, or what a query counts."""

    name: str
    """`error-rate`, `latency-pNN`, `prediction-drift` (how far the arms' predicted classes are apart: the share of
    requests that would have to change theirs), or with `query` a name of your own."""
    margin: MetricMargin
    """How much worse than stable is still as good. Of a mean, `Absolute` is a share of the width of its `bounds`."""
    query: MetricQuery | None = None
    """Where the counts come from, if not from the router."""


@record
class Guardrail:
    """A limit on the canary's own answers, whatever stable's are: it can only stop a rollout, never pass one."""

    at_most: Percentage
    """Share of its requests that may fail, or be slow; shown to be larger, it is aborted."""
    slower_than: Duration | None = None
    """Count answers that take longer than this; failed attempts when absent."""


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
    baseline: bool = False
    """Compare with a fresh copy of stable instead, started beside the canary and given as much traffic: so that age and
    load do not bias the comparison. It takes as many replicas as the canary."""
    prometheus: str | None = None
    """Laptop: URL of the Prometheus that `query` is asked of. On a cluster the operator knows its own."""
    guardrails: tuple[Guardrail, ...] = ()
    """Limits on absolute values, beside the comparisons. They share `falseAlarmRate` with them."""
    min_requests: int = 10
    """On each arm, before any verdict."""
    warmup_requests: int = 5
    """First requests of a new arm that enter no comparison."""
    bursts: Duration = Duration("0s")
    """For how long, at most, something that is not the version may hit one arm alone: a pause for garbage collection,
    a noisy neighbour. Above 0s capped means of time blocks are compared, three times as long: slower."""
    max_duration: Duration = Duration("30m")
    """When it ends as `onInconclusive` says, without a verdict until then."""
    on_inconclusive: Literal["Rollback", "Pause"] = "Rollback"
    """What to do without a verdict in time. Never promotes."""


@record
class ParentRef:
    """A Gateway."""

    name: str
    """The Gateway's name."""
    namespace: str | None = None
    """The deployment's own when absent."""
    section_name: str | None = None
    """One listener of it; all when absent."""


@record
class Traffic:
    """What the router does beside weights."""

    port: int | None = None
    """Laptop: a port of its own for this model, beside the one that all models share."""
    timeout: Duration = Duration("15s")
    """After this the client is answered with an error. Each attempt may take an equal part of it."""
    retries: int = 1
    """Within one arm, by another replica where there is one; each failed attempt counts as an error of that arm."""
    gateway: Literal["EnvoyGateway", "Other"] = "EnvoyGateway"
    """Cluster: what stands behind the Gateway API. With `Other` there are no retries, which are no part of that API,
    and evidence comes from the servers."""
    parent_refs: tuple[ParentRef, ...] = ()
    """Cluster: the gateways at which the model answers. Without any, nothing comes from outside."""
    hostnames: tuple[str, ...] = ()
    """Cluster: host names at which the model answers; all that the gateways have when empty."""
    matches: tuple[Mapping[str, Any], ...] = ()
    """Cluster: which requests are meant, as HTTPRoute's `rules[].matches`. POSTs of `/v1/models/<model>:predict` and
    `/predictions/<model>` when empty."""
    filters: tuple[Mapping[str, Any], ...] = ()
    """Cluster: what is done with them on the way, as HTTPRoute's `rules[].filters`; the path is rewritten by us."""
    adopt: bool = False
    """Cluster: take over an HTTPRoute of the deployment's name that somebody else made. Its rules become ours."""


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
    """What is to be served."""
    runtime: Runtime = Runtime()
    """The server and its settings."""
    pod_template: PodTemplate = PodTemplate()
    """Cluster: resources, GPUs, node selectors and the like, merged into our pods."""
    replicas: int | None = None
    """Servers of the arm that has all traffic; 1 when absent. Not together with `autoscaling`."""
    autoscaling: Autoscaling | None = None
    """Servers by load."""
    strategy: Strategy = Strategy()
    """How a new version comes in."""
    analysis: Analysis = Analysis()
    """The live comparison of a new version with stable."""
    traffic: Traffic = Traffic()
    """What the router does beside weights."""
    rollback: Rollback = Rollback()
    """What happens after a failed rollout."""
    paused: bool = False
    """Hold: no step is taken, nothing is undone."""

    @property
    def least(self) -> int:
        """Replicas that the arm with all traffic has at least."""
        return self.autoscaling.min_replicas if self.autoscaling else 1 if self.replicas is None else self.replicas


@record
class StableStatus:
    """The arm that is trusted, as it was observed."""

    version: str
    """Its version in the registry."""
    digest: str
    """sha256 of its archive."""
    arm: str
    """Hash of the digest and the serving spec."""
    ready_replicas: int = 0
    """Servers that have answered a real prediction since their last start."""


@record
class CanaryStatus:
    """The attempt under way in short, and what the last one came to; the whole story is its ModelRollout."""

    version: str = ""
    """The version that it brings in; empty once it has ended."""
    weight: int = 0
    """Percent of the traffic that the router confirms for it."""
    step: str = ""
    """Steps done of all, like `2/4`."""
    verdict: str = ""
    """What it came to, with the reason: `Failed: ErrorRate`; empty as long as it is open."""


@record
class Condition:
    """A condition by Kubernetes' conventions."""

    type: Literal["Ready", "Progressing", "Degraded", "Verified"]
    """What it is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str
    """Why: a constant, for alerts and tests."""
    message: str = ""
    """Why, in words, with both sides of the comparison."""
    observed_generation: int = 0
    """The generation of the spec that this was said of."""
    last_transition_time: Moment = 0.0
    """When `status` last flipped."""


@record
class DeploymentStatus:
    """What was observed."""

    observed_generation: int = 0
    """The generation of the spec that this status was observed for."""
    stable: StableStatus | None = None
    """The arm that is trusted."""
    canary: CanaryStatus | None = None
    """The current or last attempt, in short."""
    alias: Mapping[str, Any] = field(default_factory=dict)
    """The alias as last observed: `{name, version, observedAt}`."""
    rollout: str | None = None
    """Name of the current or last attempt."""
    conditions: tuple[Condition, ...] = ()
    """Ready, Progressing, Degraded and Verified."""


@record
class ModelDeployment:
    """The wish and what came of it."""

    metadata: Metadata
    spec: DeploymentSpec
    status: DeploymentStatus = DeploymentStatus()
    api_version: Literal["modelyard.dev/v1alpha1"] = API_VERSION
    kind: Literal["ModelDeployment"] = "ModelDeployment"
