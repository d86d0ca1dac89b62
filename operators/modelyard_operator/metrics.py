"""What the operator says of itself, for Prometheus.

Names follow https://prometheus.io/docs/practices/naming/. Phases and alias lag are read off the index when they are
asked for: nothing to keep up to date, nothing to leak.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelyard.errors import ModelyardError
from modelyard.kube.port import MODEL_DEPLOYMENT, MODEL_ROLLOUT, Kind, Kube, Object, kind_of
from modelyard_operator.due import Queue
from modelyard_operator.index import Index, Rollout, Wish

T = TypeVar("T")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self, index: Index, looks: Queue) -> None:
        self.registry = CollectorRegistry()
        name = "modelyard_operator_"
        self._looks = Histogram(
            f"{name}look_seconds", "Time of one look at a deployment", ["result"], buckets=_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self._waited = Histogram(
            f"{name}queue_wait_seconds", "From when a look was due until it began", buckets=_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self._api = Counter(f"{name}api_requests", "Requests to the Kubernetes API", ["verb", "kind"],
                            registry=self.registry)  # fmt: skip
        self._api_errors = Counter(f"{name}api_errors", "Requests that failed", ["verb", "kind", "error"],
                                   registry=self.registry)  # fmt: skip
        self._polls = Counter(f"{name}registry_polls", "Polls of a registry", ["registry", "result"],
                              registry=self.registry)  # fmt: skip
        self._polled = Gauge(f"{name}registry_polled_timestamp_seconds", "When a registry last answered a poll",
                             ["registry"], registry=self.registry)  # fmt: skip
        self._leader = Gauge(f"{name}leader", "1 while this replica leads", registry=self.registry)
        depth = Gauge(f"{name}queue_keys", "Deployments that a look is planned for", registry=self.registry)
        depth.set_function(lambda: len(looks))
        age = Gauge(f"{name}queue_age_seconds", "For how long the next look has been due", registry=self.registry)
        age.set_function(looks.age_s)
        self.registry.register(_Rollouts(index))

    def looked(self, result: str, *, seconds: float, waited: float) -> None:
        """A look ended: `ok`, `trouble` or `crash`."""
        self._looks.labels(result).observe(seconds)
        self._waited.observe(max(0.0, waited))

    def polled(self, registry: str, result: str) -> None:
        """A poll ended: `ok` or `error`."""
        self._polls.labels(registry, result).inc()
        if result == "ok":
            self._polled.labels(registry).set(time.time())

    def forget_registry(self, registry: str) -> None:
        """A registry is gone: so are its series."""
        for result in ("ok", "error"):
            self._polls.remove_by_labels({"registry": registry, "result": result})
        self._polled.remove_by_labels({"registry": registry})

    def leading(self, now: bool) -> None:
        """Whether this replica leads."""
        self._leader.set(int(now))

    def asked(self, verb: str, kind: Kind, error: str = "") -> None:
        """A request to the API ended."""
        self._api.labels(verb, kind.kind).inc()
        if error:
            self._api_errors.labels(verb, kind.kind, error).inc()

    def text(self) -> bytes:
        """All, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Rollouts(Collector):
    """Phases and alias lag, read off the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def collect(self) -> Iterable[Metric]:
        labels = ["namespace", "deployment"]
        phases = GaugeMetricFamily("modelyard_rollout_phase", "1: the last attempt of a deployment is in this phase",
                                   labels=[*labels, "rollout", "phase"])  # fmt: skip
        lag = GaugeMetricFamily("modelyard_alias_lag_seconds",
                                "For how long a deployment has been to serve another version than it does",
                                labels=labels)  # fmt: skip
        rollouts = self._index.entries(MODEL_ROLLOUT)
        for key, entry in self._index.entries(MODEL_DEPLOYMENT).items():
            if not isinstance(entry.kept, Wish):
                continue
            namespace, _, name = key.partition("/")
            wish, attempt = entry.kept, rollouts.get(f"{namespace}/{entry.kept.rollout}")
            if attempt is not None and isinstance(attempt.kept, Rollout):
                phases.add_metric([namespace, name, wish.rollout, attempt.kept.phase], 1.0)
            behind = wish.named and wish.named != wish.stable
            lag.add_metric([namespace, name], max(0.0, time.time() - wish.observed_at) if behind else 0.0)
        return (phases, lag)


class Counted:
    """A Kubernetes API whose requests and errors are counted."""

    def __init__(self, kube: Kube, metrics: Metrics) -> None:
        self._kube, self._metrics = kube, metrics

    def get(self, kind: Kind, *args: Any, **kwargs: Any) -> Object | None:
        """`Kube.get`."""
        return self._asked("get", kind, lambda: self._kube.get(kind, *args, **kwargs))

    def list(self, kind: Kind, **kwargs: Any) -> Any:
        """`Kube.list`."""
        return self._asked("list", kind, lambda: self._kube.list(kind, **kwargs))

    def watch(self, kind: Kind, **kwargs: Any) -> Any:
        """`Kube.watch`."""
        return self._asked("watch", kind, lambda: self._kube.watch(kind, **kwargs))

    def create(self, thing: Object, **kwargs: Any) -> Object:
        """`Kube.create`."""
        return self._written("create", thing, lambda: self._kube.create(thing, **kwargs))

    def apply(self, thing: Object, **kwargs: Any) -> Object:
        """`Kube.apply`."""
        return self._written("apply", thing, lambda: self._kube.apply(thing, **kwargs))

    def replace(self, thing: Object, **kwargs: Any) -> Object:
        """`Kube.replace`."""
        return self._written("replace", thing, lambda: self._kube.replace(thing, **kwargs))

    def delete(self, kind: Kind, *args: Any, **kwargs: Any) -> None:
        """`Kube.delete`."""
        self._asked("delete", kind, lambda: self._kube.delete(kind, *args, **kwargs))

    def _written(self, verb: str, thing: Object, act: Callable[[], Object]) -> Object:
        return self._asked(verb, kind_of(thing), act)

    def _asked(self, verb: str, kind: Kind, act: Callable[[], T]) -> T:
        try:
            answer = act()
        except ModelyardError as error:
            self._metrics.asked(verb, kind, type(error).__name__)
            raise
        self._metrics.asked(verb, kind)
        return answer
