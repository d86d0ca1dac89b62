"""What the API server itself refuses: bounds of single fields, and CEL rules for what crosses fields.

The same rules as in `check` and `check_deployment`, which hold where there is no API server, as near as CEL comes to
them; every message says what to write instead. https://kubernetes.io/docs/reference/using-api/cel/
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from modelyard.spec import deployment, registry, rollout
from modelyard.spec.crd_pod import POD, POD_RULES, Rule

_PERCENT: Final = "double(self.substring(0, self.size() - 1))"
_POSITIVE: Final = Rule("self.matches('[1-9]')", "must be more than 0, like 10s")
_RISK: Final = Rule(f"{_PERCENT} > 0.0 && {_PERCENT} < 50.0", "must be above 0% and below 50%, like 1%")
_SHARE: Final = Rule(f"{_PERCENT} > 0.0 && {_PERCENT} < 100.0", "must be above 0% and below 100%, like 5%")
_BRIEF: Final = Rule(
    "!self.contains('d') && duration(self) <= duration('60s')",
    "bursts compare blocks of time three times as long, in which all else changes too: write at most 60s",
)
_FROZEN: Final = Rule("self == oldSelf", "an attempt is frozen: leave it as it is; a retry makes a new one")
_WEIGHTS: Final = "self.steps.filter(s, has(s.setWeight) && s.setWeight > 0).map(s, s.setWeight)"
_MARGIN: Final = "double({0}.substring(0, {0}.size() - 1))"
_QUERY: Final = {
    "maxLength": 4096,
    "x-kubernetes-validations": [
        Rule("self.contains('$arm')", 'a query without $arm gives both arms one answer: write it like {arm="$arm"}')
    ],
}
_DNS_LABEL: Final = {"pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "minLength": 1, "maxLength": 63}
_SUBDOMAIN: Final = {"minLength": 1, "maxLength": 253}
_NAMED: Final = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}

RULES: Final[Mapping[type, tuple[Rule, ...]]] = {
    deployment.ModelDeployment: (
        Rule(
            "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name becomes a label and a Service: use at most 63 lower-case letters, digits and -",
        ),
    ),
    deployment.DeploymentSpec: (
        Rule(
            "!(has(self.replicas) && has(self.autoscaling))",
            "replicas cannot act with autoscaling: leave one of them out",
        ),
        Rule(
            "!(has(self.model.version) && self.rollback.alias == 'Restore')",
            "rollback.alias: Restore cannot act on a pinned version: there is no alias to put back; write Keep",
        ),
        Rule(
            "!self.analysis.baseline || self.strategy.canary.steps.size() > 0",
            "analysis.baseline cannot act without steps, since nothing is compared: leave it out",
        ),
        Rule(
            "self.strategy.canary.steps.all(s, !has(s.analysis) || !has(s.analysis.margins) || "
            "s.analysis.margins.all(name, self.analysis.metrics.exists(m, m.name == name)))",
            "margins of an analysis step must name metrics of spec.analysis.metrics, like error-rate",
        ),
    ),
    deployment.ModelRef: (
        Rule(
            "has(self.alias) != has(self.version)",
            'give exactly one of alias and version: `alias: champion` follows an alias, `version: "7"` pins one',
        ),
        Rule(
            "!has(self.alias) || !self.alias.matches('^([vV][0-9]+|[lL][aA][tT][eE][sS][tT])$')",
            "alias is reserved by MLflow: choose another, like champion",
        ),
    ),
    deployment.TorchServe: (
        Rule(
            "self.batchSize > 1 || self.maxBatchDelay == '20ms'",
            "maxBatchDelay cannot act with batchSize: 1: leave it out, or write a greater batchSize",
        ),
    ),
    deployment.Autoscaling: (
        Rule("self.minReplicas <= self.maxReplicas", "maxReplicas must be at least minReplicas: raise it"),
    ),
    deployment.ScalingMetric: (
        Rule("!has(self.cpu) || self.type == 'CPU'", "cpu cannot act with another type: write type: CPU"),
        Rule("!has(self.gpu) || self.type == 'GPU'", "gpu cannot act with another type: write type: GPU"),
        Rule(
            "!has(self.queueLatency) || self.type == 'QueueLatency'",
            "queueLatency cannot act with another type: write type: QueueLatency",
        ),
        Rule(
            "has(self.prometheus) == (self.type == 'Prometheus')",
            "type: Prometheus and prometheus: {serverAddress, query, threshold} go together: give both or neither",
        ),
    ),
    deployment.PrometheusMetric: (Rule("self.threshold.matches('[1-9]')", "threshold must be more than 0, like 100"),),
    deployment.Canary: (
        Rule(
            f"{_WEIGHTS}.isSorted() && {_WEIGHTS}.all(w, {_WEIGHTS}.exists_one(other, other == w))",
            "weights must ascend: write each setWeight above the one before, like 5, 25, 50",
        ),
        Rule(
            "self.steps.map(s, has(s.analysis)).indexOf(true) == -1 || "
            "(self.steps.map(s, has(s.setWeight) && s.setWeight > 0).indexOf(true) != -1 && "
            "self.steps.map(s, has(s.setWeight) && s.setWeight > 0).indexOf(true) < "
            "self.steps.map(s, has(s.analysis)).indexOf(true))",
            "an analysis step has no traffic to compare: write a setWeight above 0 before it",
        ),
    ),
    deployment.Analysis: (
        Rule(
            "!has(self.guardrails) || self.guardrails.all(one, self.guardrails.exists_one(other, "
            "has(other.slowerThan) == has(one.slowerThan) && "
            "(!has(one.slowerThan) || other.slowerThan == one.slowerThan)))",
            "two guardrails limit the same: keep the stricter, or give one another slowerThan",
        ),
        Rule(
            "!has(self.prometheus)",
            "prometheus is for a laptop: leave it out, and set operator.prometheus in the chart's values",
        ),
        Rule(
            "!(self.bursts.matches('[1-9]')) || self.metrics.all(m, !has(m.query) || !has(m.query.sum))",
            "bursts cannot act on a mean: leave bursts out, or count failures instead of a sum",
        ),
    ),
    **POD_RULES,
    deployment.AnalysisGate: (
        Rule(
            "!has(self.margins) || self.margins.all(name, "
            f"{_MARGIN.format('self.margins[name]')} > 0.0 && "
            f"{_MARGIN.format('self.margins[name]')} <= (name.startsWith('latency-') ? 1000.0 : 100.0))",
            "a margin must be above 0%, and at most 100%, or 1000% of a latency",
        ),
    ),
    deployment.AnalysisMetric: (
        Rule(
            "!self.name.startsWith('latency-') || self.margin.type == 'Relative'",
            "margin.type: Absolute cannot act on a latency in percent: write Relative",
        ),
        Rule(
            f"{_MARGIN.format('self.margin.value')} > 0.0 && "
            f"{_MARGIN.format('self.margin.value')} <= (self.name.startsWith('latency-') ? 1000.0 : 100.0)",
            "margin.value must be above 0%, and at most 100%, or 1000% of a latency",
        ),
        Rule(
            "has(self.query) != self.name.matches('^(error-rate|prediction-drift|latency-p[1-9][0-9]?(\\\\.[0-9])?)$')",
            "name is error-rate, prediction-drift or latency-pNN, like latency-p90; any other metric needs a query",
        ),
        Rule(
            "self.name != 'prediction-drift' || self.margin.type == 'Absolute'",
            "margin.type: Relative cannot act on a distance from stable: write Absolute",
        ),
        Rule(
            "!has(self.query) || self.name.matches('^[a-z][a-z0-9-]*$') && !self.name.startsWith('latency-')",
            "a query's name is lower-case letters, digits and -, and not one of ours: write it like refunds",
        ),
        Rule(
            "!has(self.query) || !has(self.query.bounds) || self.margin.type == 'Absolute' || "
            "!self.query.bounds[0].matches('[1-9]')",
            "margin.type: Relative has no meaning where bounds do not begin at 0: write Absolute",
        ),
    ),
    deployment.MetricQuery: (
        Rule(
            "has(self.failures) != has(self.sum)",
            "give exactly one of failures (a count) and sum (of values, with bounds)",
        ),
        Rule(
            "has(self.sum) == (has(self.bounds) && self.bounds.size() == 2 && "
            "quantity(self.bounds[0]).isLessThan(quantity(self.bounds[1])))"
            " && (has(self.sum) || !has(self.bounds) || self.bounds.size() == 0)",
            'sum and bounds go together: the smallest and the largest value of one request, like ["0", "5"]',
        ),
    ),
    deployment.Traffic: (
        Rule("!has(self.port)", "port is for a laptop: leave it out, and name gateways in parentRefs"),
        Rule(
            "self.gateway != 'Other' || self.retries == 1",
            "retries cannot act with gateway: Other, since they are no part of the Gateway API: leave them out",
        ),
        Rule(
            "(has(self.parentRefs) && self.parentRefs.size() > 0) || !(self.adopt"
            " || (has(self.hostnames) && self.hostnames.size() > 0)"
            " || (has(self.matches) && self.matches.size() > 0)"
            " || (has(self.filters) && self.filters.size() > 0))",
            "hostnames, matches, filters and adopt cannot act without gateways: name them in parentRefs",
        ),
        Rule(
            "!has(self.filters) || self.filters.all(f, !has(f.type) || !(f.type in ['URLRewrite', 'RequestRedirect']))",
            "filters of type URLRewrite and RequestRedirect are refused: the path is rewritten for the server already",
        ),
    ),
    rollout.RolloutSpec: (
        Rule(
            "self.deployment == oldSelf.deployment && self.version == oldSelf.version && self.digest == oldSelf.digest "
            "&& self.arm == oldSelf.arm && self.wished == oldSelf.wished && has(self.steps) == has(oldSelf.steps) "
            "&& (!has(self.steps) || self.steps == oldSelf.steps)",
            "an attempt is frozen: only paused, abort, promote and resumed can be set; a retry makes a new one",
        ),
    ),
}
"""By the record that they stand at. `self` is it, with its defaults."""

FIELDS: Final[Mapping[tuple[type, str], Mapping[str, Any]]] = {
    (deployment.ModelRef, "name"): _DNS_LABEL,
    (deployment.ModelRef, "alias"): {"pattern": "^[A-Za-z0-9_-]+$", "maxLength": 255},
    (deployment.ModelRef, "version"): {"pattern": "^[0-9]+$", "maxLength": 18},
    (deployment.RegistryRef, "name"): _SUBDOMAIN,
    (deployment.Verification, "trustedKeys"): {"maxItems": 16, "x-kubernetes-list-type": "set"},
    (deployment.DeploymentSpec, "replicas"): {"minimum": 1, "maximum": 10_000},
    (deployment.TorchServe, "workers"): {"minimum": 1, "maximum": 1024},
    (deployment.TorchServe, "batchSize"): {"minimum": 1, "maximum": 65_536},
    (deployment.TorchServe, "responseTimeout"): {"x-kubernetes-validations": [_POSITIVE]},
    (deployment.Autoscaling, "minReplicas"): {"minimum": 1, "maximum": 10_000},
    (deployment.Autoscaling, "maxReplicas"): {"minimum": 1, "maximum": 10_000},
    (deployment.CPUMetric, "averageUtilization"): {"minimum": 1, "maximum": 100},
    (deployment.GPUMetric, "averageUtilization"): {"minimum": 1, "maximum": 100},
    (deployment.QueueLatencyMetric, "average"): {"x-kubernetes-validations": [_POSITIVE]},
    (deployment.PrometheusMetric, "query"): {"minLength": 1, "maxLength": 4096},
    (deployment.SetWeight, "setWeight"): {"minimum": 0, "maximum": 100},
    (deployment.Pause, "duration"): {"x-kubernetes-validations": [_POSITIVE]},
    (deployment.AnalysisGate, "margins"): {"maxProperties": 8},
    (deployment.Canary, "steps"): {"maxItems": 32},
    (deployment.Canary, "progressDeadline"): {"x-kubernetes-validations": [_POSITIVE]},
    (deployment.Analysis, "falseAlarmRate"): {"x-kubernetes-validations": [_RISK]},
    (deployment.Analysis, "missRate"): {"x-kubernetes-validations": [_RISK]},
    (deployment.Analysis, "metrics"): {"minItems": 1, "maxItems": 8, **_NAMED},
    (deployment.Analysis, "guardrails"): {"maxItems": 8},
    (deployment.Analysis, "bursts"): {"x-kubernetes-validations": [_BRIEF]},
    (deployment.Guardrail, "atMost"): {"x-kubernetes-validations": [_SHARE]},
    (deployment.Guardrail, "slowerThan"): {"x-kubernetes-validations": [_POSITIVE]},
    (deployment.PodTemplate, "spec"): POD,
    (deployment.PodMetadata, "labels"): {"maxProperties": 64},
    (deployment.Analysis, "minRequests"): {"minimum": 1},
    (deployment.Analysis, "warmupRequests"): {"minimum": 0},
    (deployment.Analysis, "maxDuration"): {"x-kubernetes-validations": [_POSITIVE]},
    (deployment.AnalysisMetric, "name"): {
        "maxLength": 32,
    },
    (deployment.MetricQuery, "total"): _QUERY,
    (deployment.MetricQuery, "failures"): _QUERY,
    (deployment.MetricQuery, "sum"): _QUERY,
    (deployment.MetricQuery, "bounds"): {"maxItems": 2},
    (deployment.Traffic, "port"): {"minimum": 1024, "maximum": 65_535},
    (deployment.Traffic, "timeout"): {"x-kubernetes-validations": [_POSITIVE]},
    (deployment.Traffic, "retries"): {"minimum": 0, "maximum": 10},
    (deployment.Traffic, "parentRefs"): {"maxItems": 16},
    (deployment.Traffic, "hostnames"): {"maxItems": 16, "x-kubernetes-list-type": "set"},
    (deployment.Traffic, "matches"): {"maxItems": 16},
    (deployment.Traffic, "filters"): {
        "maxItems": 16,
        "items": {
            "type": "object",
            "properties": {"type": {"type": "string", "maxLength": 64, "description": "Which filter."}},
            "x-kubernetes-preserve-unknown-fields": True,
        },
    },
    (deployment.ParentRef, "name"): _SUBDOMAIN,
    (deployment.Rollback, "retain"): {"minimum": 1, "maximum": 1000},
    (deployment.DeploymentStatus, "conditions"): {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    },
    (registry.RegistryStatus, "conditions"): {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    },
    (registry.ModelRegistrySpec, "pollInterval"): {"x-kubernetes-validations": [_POSITIVE]},
    (registry.MLflow, "trackingURI"): {"pattern": "^https?://.+", "maxLength": 2048},
    (registry.SecretRef, "name"): _SUBDOMAIN,
    (rollout.RolloutSpec, "serving"): {"x-kubernetes-validations": [_FROZEN]},
    (rollout.RolloutSpec, "previous"): {"x-kubernetes-validations": [_FROZEN]},
    (rollout.RolloutSpec, "digest"): {"pattern": "^sha256:[0-9a-f]{64}$"},
    (rollout.RolloutSpec, "steps"): {"maxItems": 32},
    (rollout.RolloutSpec, "resumed"): {"minimum": -1, "maximum": 32},
}
"""Beside what the type says, by record and the field's name."""


class Column(NamedTuple):
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    """Only with `-o wide`."""


AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
COLUMNS: Final[Mapping[type, tuple[Column, ...]]] = {
    deployment.ModelDeployment: (
        Column("Stable", ".status.stable.version"),
        Column("Canary", ".status.canary.version"),
        Column("Weight", ".status.canary.weight", "integer"),
        Column("Step", ".status.canary.step"),
        Column("Verdict", ".status.canary.verdict"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Degraded")].reason', wide=True),
        Column("Model", ".spec.model.name", wide=True),
        Column("Alias", ".spec.model.alias", wide=True),
        Column("Rollout", ".status.rollout", wide=True),
        AGE,
    ),
    rollout.ModelRollout: (
        Column("Deployment", ".spec.deployment"),
        Column("Version", ".spec.version"),
        Column("Phase", ".status.phase"),
        Column("Step", ".status.step", "integer"),
        Column("Verdict", ".status.verdict.outcome"),
        Column("Reason", ".status.verdict.reason"),
        Column("Paused", ".spec.paused", "boolean", wide=True),
        Column("Digest", ".spec.digest", wide=True),
        AGE,
    ),
    registry.ModelRegistry: (
        Column("Type", ".spec.type"),
        Column("Address", ".spec.mlflow.trackingURI"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        AGE,
    ),
}
