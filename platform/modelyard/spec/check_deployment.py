"""What must be true of a deployment, whether it stands in a project or alone."""

import re
from collections.abc import Iterator

from modelyard.spec.check_classes import DRIFT, check_drift
from modelyard.spec.check_numbers import at_least, between, positive
from modelyard.spec.check_query import check_queries, check_query
from modelyard.spec.deployment import (
    Analysis,
    AnalysisStep,
    Canary,
    DeploymentSpec,
    PauseStep,
    ScalingMetric,
    SetWeight,
    TorchServe,
    Traffic,
)
from modelyard.spec.pod import check_pod_template
from modelyard.spec.problem import FieldPath, Problem, did_you_mean
from modelyard.spec.project import Deployment

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LONGEST_BURST_S = 60.0
"""Of `analysis.bursts`."""
_LATENCY = re.compile(r"latency-p([1-9]\d?(?:\.\d)?)")


def check_name(name: str, at: FieldPath) -> Iterator[Problem]:
    """A model's name becomes a registered model, a URL, a Service and a folder: a DNS label serves all of them.

    MLflow lets `/` and `:` through and then cannot address the model (mlflow PR #21458).
    """
    if len(name) > 63:
        yield Problem(field=at, message=f"{len(name)} characters; a name has at most 63")
    elif not _NAME.fullmatch(name):
        message = f"{name!r} is no name; use lower-case letters, digits and -, like {_suggestion(name)}"
        yield Problem(field=at, message=message)


def _suggestion(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "digits"


def check_alias(alias: str, at: FieldPath) -> Iterator[Problem]:
    """MLflow reserves `latest` and `v7`, and takes letters, digits, `_` and `-`."""
    if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        yield Problem(field=at, message=f"{alias} is reserved by MLflow; choose another, like champion")
    elif not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", alias):
        yield Problem(field=at, message=f"{alias!r} is no alias; use letters, digits, _ and -")


def check_serving(spec: DeploymentSpec | Deployment, at: FieldPath) -> Iterator[Problem]:
    """What is wrong with how a model is served and rolled out."""
    yield from _size(spec, at)
    yield from check_pod_template(spec.pod_template, (*at, "podTemplate"))
    yield from at_least(1, spec.rollback.retain, (*at, "rollback", "retain"))
    server, server_at = spec.runtime.torch_serve, (*at, "runtime", "torchServe")
    yield from at_least(1, server.workers, (*server_at, "workers"))
    yield from at_least(1, server.batch_size, (*server_at, "batchSize"))
    yield from positive(server.response_timeout, (*server_at, "responseTimeout"))
    if server.batch_size == 1 and server.max_batch_delay != TorchServe().max_batch_delay:
        yield Problem(field=(*server_at, "maxBatchDelay"), message="cannot act with batchSize: 1")
    yield from _traffic(spec, (*at, "traffic"))
    yield from _steps(spec.strategy.canary, spec.analysis, (*at, "strategy", "canary"))
    yield from _analysis(spec.analysis, (*at, "analysis"))
    if spec.analysis.baseline and not spec.strategy.canary.steps:
        yield Problem(field=(*at, "analysis", "baseline"), message="cannot act without steps: nothing is compared")


def _size(spec: DeploymentSpec | Deployment, at: FieldPath) -> Iterator[Problem]:
    if spec.replicas is not None:
        yield from at_least(1, spec.replicas, (*at, "replicas"))
    scaling, here = spec.autoscaling, (*at, "autoscaling")
    if scaling is None:
        return
    if spec.replicas is not None:
        yield Problem(field=(*at, "replicas"), message="cannot act with autoscaling; leave one of them out")
    if scaling.min_replicas < 1:
        message = (
            f"{scaling.min_replicas} is less than 1: without KEDA's HTTP add-on nothing would wake the model again"
        )
        yield Problem(field=(*here, "minReplicas"), message=message)
    if scaling.max_replicas < scaling.min_replicas:
        message = f"{scaling.max_replicas} < minReplicas {scaling.min_replicas}"
        yield Problem(field=(*here, "maxReplicas"), message=message)
    yield from _scaling_metric(scaling.metric, (*here, "metric"))


def _scaling_metric(metric: ScalingMetric, at: FieldPath) -> Iterator[Problem]:
    members = {
        "CPU": metric.cpu, "GPU": metric.gpu, "QueueLatency": metric.queue_latency, "Prometheus": metric.prometheus,
    }  # fmt: skip
    for kind, member in members.items():
        name = "cpu" if kind == "CPU" else "gpu" if kind == "GPU" else kind[0].lower() + kind[1:]
        if member is not None and kind != metric.type:
            yield Problem(field=(*at, name), message=f"cannot act with type: {metric.type}")
    if metric.type == "Prometheus" and metric.prometheus is None:
        yield Problem(field=at, message="type: Prometheus needs prometheus: {serverAddress, query, threshold}")
    for name, percent in (("cpu", metric.cpu), ("gpu", metric.gpu)):
        if percent is not None:
            yield from between(1, percent.average_utilization, 100, (*at, name, "averageUtilization"))
    if metric.queue_latency is not None:
        yield from positive(metric.queue_latency.average, (*at, "queueLatency", "average"))
    if metric.prometheus is not None and metric.prometheus.threshold.value <= 0:
        yield Problem(field=(*at, "prometheus", "threshold"), message="must be more than 0")


def _traffic(spec: DeploymentSpec | Deployment, at: FieldPath) -> Iterator[Problem]:
    traffic = spec.traffic
    if traffic.port is not None and not 1024 <= traffic.port <= 65535:
        yield Problem(field=(*at, "port"), message=f"{traffic.port} is not a port from 1024 to 65535")
    yield from positive(traffic.timeout, (*at, "timeout"))
    yield from between(0, traffic.retries, 10, (*at, "retries"))
    if traffic.gateway == "Other" and traffic.retries != Traffic().retries:
        message = "cannot act with gateway: Other: retries are no part of the Gateway API"
        yield Problem(field=(*at, "retries"), message=message)
    for name in ("hostnames", "matches", "filters", "adopt"):
        if getattr(traffic, name) and not traffic.parent_refs:
            yield Problem(field=(*at, name), message="cannot act without parentRefs, the gateways")
    for index, one in enumerate(traffic.filters):
        if one.get("type") in ("URLRewrite", "RequestRedirect"):
            message = f"{one['type']} is refused: the path is rewritten to TorchServe's by us; use another filter"
            yield Problem(field=(*at, "filters", str(index)), message=message)


def _steps(canary: Canary, analysis: Analysis, at: FieldPath) -> Iterator[Problem]:
    yield from positive(canary.progress_deadline, (*at, "progressDeadline"))
    weight = 0
    for index, step in enumerate(canary.steps):
        here = (*at, "steps", str(index))
        match step:
            case SetWeight(set_weight=new):
                yield from between(0, new, 100, (*here, "setWeight"))
                if new <= weight and weight:
                    yield Problem(field=(*here, "setWeight"), message=f"{new} <= {weight}; weights must ascend")
                weight = new
            case PauseStep(pause=pause) if pause.duration is not None:
                yield from positive(pause.duration, (*here, "pause", "duration"))
            case AnalysisStep(analysis=gate):
                if weight == 0:
                    message = "no setWeight above 0 stands before it: there is no traffic to compare"
                    yield Problem(field=(*here, "analysis"), message=message)
                names = [metric.name for metric in analysis.metrics]
                for name, margin in gate.margins.items():
                    margin_at = (*here, "analysis", "margins", name)
                    if name not in names:
                        message = f"no metric of the analysis; {did_you_mean(name, names)}"
                        yield Problem(field=margin_at, message=message)
                    yield from between(0, margin.fraction, _most(name), margin_at, low_open=True)


def _analysis(analysis: Analysis, at: FieldPath) -> Iterator[Problem]:
    for name, risk in (("falseAlarmRate", analysis.false_alarm_rate), ("missRate", analysis.miss_rate)):
        if not 0 < risk.fraction < 0.5:
            yield Problem(field=(*at, name), message=f"{risk} is out of range; it must be above 0% and below 50%")
    yield from at_least(1, analysis.min_requests, (*at, "minRequests"))
    yield from at_least(0, analysis.warmup_requests, (*at, "warmupRequests"))
    yield from positive(analysis.max_duration, (*at, "maxDuration"))
    yield from _guardrails(analysis, at)
    yield from check_queries(analysis, at)
    if not analysis.metrics:
        yield Problem(field=(*at, "metrics"), message="is empty: missing evidence never promotes; compare something")
    for index, metric in enumerate(analysis.metrics):
        here = (*at, "metrics", str(index))
        latency = _LATENCY.fullmatch(metric.name)
        yield from check_query(metric, here)
        yield from check_drift(metric, here)
        if metric.name not in ("error-rate", DRIFT) and not latency and metric.query is None:
            known = f"known are error-rate, latency-pNN, like latency-p90, {DRIFT}, and what has a query"
            message = f"{metric.name!r} is not compared; {known}"
            yield Problem(field=(*here, "name"), message=message)
        if metric.name in [other.name for other in analysis.metrics[:index]]:
            yield Problem(field=(*here, "name"), message=f"{metric.name} is given twice")
        if latency and metric.margin.type == "Absolute":
            message = "Absolute cannot act on a latency in percent; write Relative"
            yield Problem(field=(*here, "margin", "type"), message=message)
        yield from between(
            0, metric.margin.value.fraction, _most(metric.name), (*here, "margin", "value"), low_open=True
        )


def _guardrails(analysis: Analysis, at: FieldPath) -> Iterator[Problem]:
    if analysis.bursts.seconds > LONGEST_BURST_S:
        message = f"{analysis.bursts} is too long: its blocks compare what has long changed; write at most"
        yield Problem(field=(*at, "bursts"), message=f"{message} {LONGEST_BURST_S:g}s")
    for index, rail in enumerate(analysis.guardrails):
        here = (*at, "guardrails", str(index))
        if not 0 < rail.at_most.fraction < 1:
            message = f"{rail.at_most} is out of range; it must be above 0% and below 100%"
            yield Problem(field=(*here, "atMost"), message=message)
        if rail.slower_than is not None:
            yield from positive(rail.slower_than, (*here, "slowerThan"))
        if rail.slower_than in [other.slower_than for other in analysis.guardrails[:index]]:
            yield Problem(field=here, message="limits the same as an earlier one; keep the stricter")


def _most(metric: str) -> float:
    """The widest margin that still compares: all requests failing, or ten times as slow."""
    return 10.0 if metric.startswith("latency-") else 1.0
