"""Metrics that a Prometheus counts of each arm.

All counts of a metric are asked at once, in one query, so that they are of one moment: a failure is never seen
without the request that it belongs to. Each series is a counter of one process, which may begin anew: it is added up
from what it grew by, as `modelyard.rollout.cluster.ledger` does. A series that is away for a while keeps what it had.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

import json
import math
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

import httpx

from modelyard.errors import BadInput, ModelyardError, Unavailable
from modelyard.rollout.pairs import Pair, Told
from modelyard.spec.check_query import ARM, parts_of
from modelyard.spec.deployment import Analysis, AnalysisMetric

EVERY_S: Final = 1.0
"""Between two questions about one deployment; looks in between get the same answer."""
TIMEOUT_S: Final = 2.0
MOST_BYTES: Final = 4_000_000
MOST_SERIES: Final = 1000
"""Series of one query and arm, whenever seen: what is remembered stays small."""
_PART: Final = "modelyard_part"

Series = tuple[tuple[str, str], ...]
"""Labels, without the metric's name: `a or 0 * b` is one counter whichever side answers."""


class Answer(NamedTuple):
    """One series at one moment."""

    labels: Mapping[str, str]
    at: float
    value: float


Ask = Callable[[str, str], list[Answer]]
"""`(url, query)`. Raises `BadInput` with Prometheus' words where it refuses, `Unavailable` where it is away."""


class Asking:
    """`Queries` of one Prometheus.

    Args:
        url: where it is, as far as this analysis is concerned; empty where there is none.
        hint: what people must set then.
        ask: asks it.
    """

    def __init__(self, url: Callable[[Analysis], str], *, hint: str, ask: Ask | None = None) -> None:
        self._url, self._hint, self._ask = url, hint, ask or asker()
        self._books: dict[str, dict[tuple[str, str], _Grown]] = {}
        """By deployment; by arm and query."""
        self._last: dict[str, tuple[float, Any, Mapping[str, Told]]] = {}
        self._lock = threading.Lock()

    def told(self, key: str, analysis: Analysis, arms: Collection[str]) -> Mapping[str, Told]:
        """What is known of each metric that has a query. Never raises: why there is nothing is told."""
        metrics = [metric for metric in analysis.metrics if metric.query is not None]
        question, now = (metrics, self._url(analysis), sorted(arms)), time.monotonic()
        with self._lock:
            since, before, known = self._last.get(key, (-math.inf, None, {}))
        if before == question and now - since < EVERY_S:
            return known
        found = self._all(key, metrics, self._url(analysis).rstrip("/"), sorted(arms))
        with self._lock:
            self._last[key] = (now, question, found)
        return found

    def _all(self, key: str, metrics: list[AnalysisMetric], url: str, arms: list[str]) -> dict[str, Told]:
        if not url:
            why = f"no Prometheus is known: {self._hint}"
            return {metric.name: Told(why=why, refused=True) for metric in metrics}
        old, books, told = self._books.get(key, {}), dict[tuple[str, str], _Grown](), dict[str, Told]()
        for metric in metrics:
            wanted = [Wanted(arm, field, text) for arm in arms for field, text in _texts(metric, arm)]
            books.update({(one.arm, one.text): old.get((one.arm, one.text)) or _Grown() for one in wanted})
            try:
                told[metric.name] = _told(metric, self._one(url, wanted), books, arms)
            except BadInput as refused:
                told[metric.name] = Told(why=refused.what, refused=True)
            except ModelyardError as away:
                told.update({one.name: Told(why=away.what, away=True) for one in metrics if one.name not in told})
                books = {**old, **books}
                break
        with self._lock:
            self._books[key] = books
        return told

    def _one(self, url: str, wanted: "list[Wanted]") -> "dict[Wanted, list[Answer]]":
        whole = "\nor\n".join(
            f'label_replace((\n{one.text}\n), "{_PART}", "{place}", "", "")' for place, one in enumerate(wanted)
        )
        try:
            answers = self._ask(url, whole)
        except BadInput as refused:
            for one in wanted:  # alone, so that the words are about what was written
                try:
                    self._ask(url, one.text)
                except BadInput as alone:
                    raise BadInput(f"{one.field} is refused: {alone.what}", do="correct it") from None
            raise BadInput(f"the query is refused: {refused.what}", do="correct it") from None
        found: dict[Wanted, list[Answer]] = {one: [] for one in wanted}
        for answer in answers:
            found[wanted[int(answer.labels[_PART])]].append(answer)
        return found


class Wanted(NamedTuple):
    """One count of one arm."""

    arm: str
    field: str
    text: str


class _Grown:
    """A sum of counters, each of which may begin anew."""

    def __init__(self) -> None:
        self._last: dict[Series, float] = {}
        self._past = 0.0

    def put(self, answers: list[Answer]) -> float:
        """Take what each counts now; gives all that they ever counted."""
        for labels, _, value in answers:
            series = tuple(sorted((name, text) for name, text in labels.items() if name not in ("__name__", _PART)))
            before = self._last.get(series, 0.0)
            self._past += before if value < before else 0.0
            self._last[series] = value
        if len(self._last) > MOST_SERIES:
            raise BadInput(f"gives more than {MOST_SERIES} series", do="name fewer")
        return self._past + math.fsum(self._last.values())


def _texts(metric: AnalysisMetric, arm: str) -> Iterator[tuple[str, str]]:
    assert metric.query is not None
    for field, text in parts_of(metric.query).items():
        yield field, text.replace(ARM, arm)


def _told(
    metric: AnalysisMetric,
    found: Mapping[Wanted, list[Answer]],
    books: Mapping[tuple[str, str], _Grown],
    arms: list[str],
) -> Told:
    pairs, why, at = {}, "", 0.0
    for arm in arms:
        counts: dict[str, float] = {}
        for one, answers in found.items():
            if one.arm != arm:
                continue
            lack = _lack(one, answers)
            why = why or lack
            if not lack:
                counts[one.field] = _put(one, answers, books[one.arm, one.text])
                at = max(at, *(answer.at for answer in answers))
        if len(counts) == 2:
            pairs[arm] = _pair(metric, counts)
    return Told(at=at, arms=pairs, why=why)


def _put(one: Wanted, answers: list[Answer], book: _Grown) -> float:
    try:
        return book.put(answers)
    except BadInput as many:
        raise BadInput(f"{one.field} {many.what}", do="name fewer") from None


def _lack(one: Wanted, answers: list[Answer]) -> str:
    """Why what was answered is no count; empty where it is one."""
    if not answers:
        more = "; one that exists only once it has counted is written like `bad or 0 * all`"
        return f"{one.field} gives nothing for arm {one.arm}{'' if one.field == 'total' else more}"
    for answer in answers:
        if not math.isfinite(answer.value) or answer.value < 0:
            return f"{one.field} gives {answer.value:g} for arm {one.arm}"
        if one.field != "sum" and abs(answer.value - round(answer.value)) > 1e-6:
            return f"{one.field} gives {answer.value:g} for arm {one.arm}, which counts nothing: write a counter"
    return ""


def _pair(metric: AnalysisMetric, counts: Mapping[str, float]) -> Pair:
    total = round(counts["total"])
    if "sum" not in counts:
        return Pair(total=total, bad=round(counts["failures"]))
    assert metric.query is not None
    low, high = (bound.value for bound in metric.query.bounds)
    return Pair(total=total, bad=(counts["sum"] - low * total) / (high - low))


def asker(timeout_s: float = TIMEOUT_S) -> Ask:
    """Asks over one client."""
    client = httpx.Client(timeout=timeout_s)

    def ask(url: str, query: str) -> list[Answer]:
        where = re.sub(r"//[^/@]*@", "//", url)  # what is said ends up in a status: without a password
        try:
            with client.stream("POST", f"{url}/api/v1/query", data={"query": query}) as answer:
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > MOST_BYTES:
                        raise BadInput(f"it answers more than {MOST_BYTES // 1_000_000} MB", do="name fewer series")
                code = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"Prometheus at {where} gives no answer: {type(error).__name__}", do="wait") from None
        try:
            said = json.loads(bytes(body))
            if code in (400, 422):
                raise BadInput(str(said["error"]), do="correct it")
            kind, result = said["data"]["resultType"], said["data"]["result"]
            if kind != "vector":
                raise BadInput(f"it is no vector but a {kind}", do="correct it")
            return [
                Answer(labels=one["metric"], at=float(one["value"][0]), value=float(one["value"][1])) for one in result
            ]
        except (ValueError, LookupError, TypeError):
            raise Unavailable(f"{where} does not answer as a Prometheus does ({code})", do="see what it is") from None

    return ask
