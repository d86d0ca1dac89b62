"""What clients saw of each arm: from the router, which sees as they do, or from the pods where the router gives none.

- `EnvoyCounters`: Envoy Gateway's proxies, asked straight.
- `PrometheusCounters`: the same series from a Prometheus, with the times at which it scraped them.
- `PodCounters`: process 1 of each pod. It never hears of a connection that was refused.

All add up what many processes count since each of them started (`modelyard.rollout.cluster.ledger`). A source of which
nothing was heard gives no counts: missing is absent, never zero.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import httpx

from modelyard.errors import ModelyardError, Unavailable
from modelyard.kube.metadata import ARM_LABEL, DEPLOYMENT_LABEL, fit, labels_of, name_of
from modelyard.kube.port import HTTP_ROUTE, MODEL_DEPLOYMENT, POD, Kube, Object
from modelyard.rollout.cluster.ledger import Ledger, Reading
from modelyard.rollout.cluster.render import PROBE_PORT
from modelyard.rollout.cluster.render_route import places
from modelyard.rollout.observation import Counts
from modelyard.rollout.ports import Counters
from modelyard.spec.check_classes import DRIFT

ENVOY_PORT: Final = 19001
"""Where Envoy Gateway's proxies show their statistics."""
ENVOY_NAMESPACE: Final = "envoy-gateway-system"
SCRAPE_S: Final = 2.0
AT_ONCE: Final = 16
KNOWN_S: Final = 5.0
"""What says where to ask (wishes, proxies) is read again after this."""
LOOK_BACK: Final = "2m"
"""A series that Prometheus has not seen for so long is missing."""

Scrape = Callable[[str], str]
"""The text at a URL; raises `Unavailable`."""


class Sample(NamedTuple):
    """One line of Prometheus' text format."""

    name: str
    labels: Mapping[str, str]
    value: float


def scraper(timeout_s: float = SCRAPE_S) -> Scrape:
    """Reads metrics over HTTP."""
    client = httpx.Client(timeout=timeout_s)

    def scrape(url: str) -> str:
        try:
            answer = client.get(url)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"{url} gives no metrics: {type(error).__name__} {error}", do="wait") from None
        return answer.text

    return scrape


class PodCounters:
    """`Counters` from process 1 of each pod."""

    def __init__(self, kube: Kube, scrape: Scrape, *, clock: Callable[[], float] = time.time) -> None:
        self._kube, self._scrape, self._clock = kube, scrape, clock
        self._ledger = Ledger()

    def counts(self, key: str) -> Mapping[str, Counts]:
        """Counters by arm. An arm of which one ready pod says nothing is absent: half of it is not the whole."""
        namespace, _, name = key.partition("/")
        pods = self._kube.list(POD, namespace=namespace, labels={DEPLOYMENT_LABEL: fit(name)}).items
        asked = [pod for pod in pods if _ready(pod)]
        texts = _all(self._scrape, [f"http://{_host(pod)}:{PROBE_PORT}/metrics" for pod in asked])
        at = self._clock()
        silent = {labels_of(pod).get(ARM_LABEL) for pod, text in zip(asked, texts, strict=True) if text is None}
        for pod, text in zip(asked, texts, strict=True):
            if text is not None:
                self._ledger.put((key, labels_of(pod)[ARM_LABEL]), name_of(pod), of_pod(text))
        self._ledger.close(key, alive={name_of(pod) for pod in pods})
        arms = {labels_of(pod).get(ARM_LABEL, "") for pod in pods}
        self._ledger.forget(lambda place: place[0] == key and place[1] not in arms)
        found = {arm: self._ledger.total((key, arm), at=at) for arm in arms - silent}
        return {arm: counts for arm, counts in found.items() if counts is not None}


class EnvoyCounters:
    """`Counters` from Envoy Gateway's proxies, asked straight.

    Args:
        kube: where proxies and routes are found.
        scrape: how metrics are read.
        namespace: where the proxies run.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        kube: Kube,
        scrape: Scrape,
        *,
        namespace: str = ENVOY_NAMESPACE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kube, self._scrape, self._namespace, self._clock = kube, scrape, namespace, clock
        self._ledger = Ledger()
        self._known: dict[tuple[str, str], tuple[float, tuple[Object, ...]]] = {}
        """By gateway: since when its proxies are known."""

    def counts(self, key: str) -> Mapping[str, Counts]:
        """Counters by arm. Empty where a proxy of one of the route's gateways does not answer."""
        namespace, _, name = key.partition("/")
        route = self._kube.get(HTTP_ROUTE, namespace, name)
        proxies = [] if route is None else list(self._proxies(route))
        texts = _all(self._scrape, [f"http://{_host(pod)}:{ENVOY_PORT}/stats/prometheus" for pod in proxies])
        if route is None or not texts or None in texts:
            return {}
        at, arms = self._clock(), [arm for arm, _ in places(route)]
        for pod, text in zip(proxies, texts, strict=True):
            for place, reading in of_envoy(parsed(text or ""), key).items():
                if place < len(arms):
                    self._ledger.put((key, arms[place]), f"{name_of(pod)}/{place}", reading)
        self._ledger.forget(lambda place: place[0] == key and place[1] not in arms)
        found = {arm: self._ledger.total((key, arm), at=at) for arm in arms}
        return {arm: counts for arm, counts in found.items() if counts is not None}

    def _proxies(self, route: Object) -> Iterator[Object]:
        """Ready proxies of the route's gateways."""
        here, now = route["metadata"]["namespace"], self._clock()
        for parent in route["spec"].get("parentRefs") or ():
            gateway = (str(parent.get("namespace", here)), str(parent["name"]))
            since, proxies = self._known.get(gateway, (0.0, ()))
            if not proxies or not 0 <= now - since < KNOWN_S:
                proxies = self._of(*gateway)
                self._known[gateway] = (now, proxies)
            yield from proxies

    def _of(self, namespace: str, name: str) -> tuple[Object, ...]:
        labels = {
            "gateway.envoyproxy.io/owning-gateway-namespace": namespace,
            "gateway.envoyproxy.io/owning-gateway-name": name,
        }
        return tuple(filter(_ready, self._kube.list(POD, namespace=self._namespace, labels=labels).items))


class PrometheusCounters:
    """`Counters` of Envoy Gateway's proxies from a Prometheus that scrapes them.

    Args:
        kube: where routes are found.
        url: of the Prometheus.
        ask: its answer to a query: `(url, query) -> data.result`.
    """

    def __init__(
        self, kube: Kube, url: str, ask: Callable[[str, str], Sequence[Mapping[str, Any]]] | None = None
    ) -> None:
        self._kube, self._url, self._ask = kube, url.rstrip("/"), ask or asker()
        self._ledger = Ledger()

    def counts(self, key: str) -> Mapping[str, Counts]:
        """Counters by arm, as of their last scrape. Empty while Prometheus is away."""
        namespace, _, name = key.partition("/")
        route = self._kube.get(HTTP_ROUTE, namespace, name)
        if route is None:
            return {}
        query = (
            f'{{__name__=~"{_SERIES}",envoy_cluster_name=~"httproute/{namespace}/{re.escape(name)}/.*"}}[{LOOK_BACK}]'
        )
        try:
            series = self._ask(self._url, query)
        except ModelyardError:
            return {}
        samples: dict[str, list[Sample]] = defaultdict(list)
        at = 0.0
        for each in series:
            labels, (when, value) = each["metric"], each["values"][-1]
            at = max(at, float(when))
            samples[str(labels.get("pod") or labels.get("instance", ""))].append(
                Sample(str(labels["__name__"]), labels, float(value))
            )
        arms = [arm for arm, _ in places(route)]
        for source, lines in samples.items():
            for place, reading in of_envoy(lines, key).items():
                if place < len(arms):
                    self._ledger.put((key, arms[place]), f"{source}/{place}", reading)
        self._ledger.forget(lambda place: place[0] == key and place[1] not in arms)
        found = {arm: self._ledger.total((key, arm), at=at) for arm in arms} if samples else {}
        return {arm: counts for arm, counts in found.items() if counts is not None}


class ClusterCounters:
    """The router's counters where the wish's gateway is Envoy Gateway, else the pods' own.

    No router sees what was predicted: where that is compared, the pods are asked for it too.
    """

    def __init__(
        self, kube: Kube, *, router: Counters, pods: Counters, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube, self._router, self._pods, self._clock = kube, router, pods, clock
        self._known: dict[str, tuple[float, Counters, bool]] = {}
        """By key: since when it is known which are asked, and whether for classes."""

    def counts(self, key: str) -> Mapping[str, Counts]:
        """Counters by arm."""
        now = self._clock()
        since, source, classes = self._known.get(key, (-KNOWN_S, self._router, False))
        if now - since >= KNOWN_S:
            source, classes = self._source(key)
            self._known[key] = (now, source, classes)
        found = source.counts(key)
        if not classes or source is self._pods:
            return found
        told = {arm: counts.classes for arm, counts in self._pods.counts(key).items()}
        return {arm: replace(counts, classes=told.get(arm)) for arm, counts in found.items()}

    def _source(self, key: str) -> tuple[Counters, bool]:
        namespace, _, name = key.partition("/")
        wish = self._kube.get(MODEL_DEPLOYMENT, namespace, name)
        traffic = {} if wish is None else wish["spec"].get("traffic") or {}
        analysis = {} if wish is None else wish["spec"].get("analysis") or {}
        classes = any(metric["name"] == DRIFT for metric in analysis.get("metrics") or ())
        return (self._pods if traffic.get("gateway") == "Other" else self._router), classes


_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parsed(text: str) -> Iterator[Sample]:
    """Lines of Prometheus' text format."""
    for line in text.splitlines():
        if not line.startswith("#") and (found := _LINE.match(line)):
            yield Sample(found[1], dict(_LABEL.findall(found[2] or "")), float(found[3]))


def of_pod(text: str) -> Reading:
    """What process 1 counted (`modelyard.serving.tally`)."""
    requests, errors, buckets = 0, 0, []
    classes: dict[str, int] = {}
    for name, labels, value in parsed(text):
        if name == "modelyard_attempts_total":
            requests += int(value)
        elif name == "modelyard_attempt_errors_total":
            errors = int(value)
        elif name == "modelyard_predictions_total":
            classes[unquote(labels["class"])] = int(value)
        elif name == "modelyard_answer_duration_seconds_bucket":
            buckets.append((float(labels["le"]) * 1000, int(value)))
    return replace(_reading(requests, errors, buckets), classes=classes)


_CLUSTER = re.compile(r"httproute/([^/]+)/([^/]+)/rule/0(?:/backend/(\d+))?")
_SERIES = "envoy_cluster_upstream_rq_(xx|retry|time_bucket)"


def of_envoy(samples: Iterator[Sample] | Sequence[Sample], key: str) -> dict[int, Reading]:
    """What one proxy counted of a route's backends, by their place in the rule.

    An error is a failed attempt. Envoy counts one that is tried again under `upstream_rq_retry` alone, so it is added.
    """
    requests: dict[int, int] = defaultdict(int)
    errors: dict[int, int] = defaultdict(int)
    buckets: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for name, labels, value in samples:
        found = _CLUSTER.fullmatch(labels.get("envoy_cluster_name", ""))
        if found is None or f"{found[1]}/{found[2]}" != key:
            continue
        place, count = int(found[3] or 0), int(value)
        kind = name.removeprefix("envoy_cluster_")
        if kind == "upstream_rq_xx":
            requests[place] += count
            errors[place] += count * (labels.get("envoy_response_code_class") in ("4", "5"))
        elif kind == "upstream_rq_retry":
            requests[place] += count
            errors[place] += count
        elif kind == "upstream_rq_time_bucket":
            buckets[place].append((float(labels["le"]), count))
    return {place: _reading(requests[place], errors[place], buckets[place]) for place in requests}


def _reading(requests: int, errors: int, buckets: Sequence[tuple[float, int]]) -> Reading:
    """Buckets come as `(upper bound in ms, cumulative count)`."""
    ordered = sorted(buckets)
    bounds = tuple(bound for bound, _ in ordered if bound != float("inf"))
    return Reading(requests=requests, errors=errors, latency=tuple(count for _, count in ordered), bounds=bounds)


def _all(scrape: Scrape, urls: Sequence[str]) -> list[str | None]:
    """The text of each, or None where it cannot be read; all at the same time."""

    def tried(url: str) -> str | None:
        try:
            return scrape(url)
        except Unavailable:
            return None

    if len(urls) < 2:
        return [tried(url) for url in urls]
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(urls))) as pool:
        return list(pool.map(tried, urls))


def asker(timeout_s: float = SCRAPE_S) -> Callable[[str, str], Sequence[Mapping[str, Any]]]:
    """Asks a Prometheus, over one client: each would read all certificates again, which takes longer than the query."""
    client = httpx.Client(timeout=timeout_s)

    def ask(url: str, query: str) -> Sequence[Mapping[str, Any]]:
        try:
            answer = client.get(f"{url}/api/v1/query", params={"query": query})
            answer.raise_for_status()
            found: Sequence[Mapping[str, Any]] = answer.json()["data"]["result"]
        except (httpx.HTTPError, ValueError, LookupError) as error:
            raise Unavailable(f"Prometheus at {url} gives no answer: {type(error).__name__}", do="wait") from None
        return found

    return ask


def _ready(pod: Object) -> bool:
    status = pod.get("status") or {}
    told = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    return told and "deletionTimestamp" not in pod["metadata"]


def _host(pod: Object) -> str:
    address = str((pod.get("status") or {}).get("podIP", ""))
    return f"[{address}]" if ":" in address else address
