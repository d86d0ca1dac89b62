"""What must be true of a metric that a Prometheus counts."""

import re
from collections.abc import Iterator

from modelyard.spec.deployment import Analysis, AnalysisMetric, MetricQuery
from modelyard.spec.problem import FieldPath, Problem

ARM = "$arm"
"""In a query: the arm's name."""
LONGEST = 4096
OWN_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TAKEN = re.compile(r"error-rate|prediction-drift|latency-.*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`')
_RATE = re.compile(r"\b(i?rate|increase|i?delta|deriv|resets|changes|\w+_over_time)\s*\(")
_ADDED = re.compile(r"\b(sum|avg|min|max|count|group|stddev|stdvar|topk|bottomk|quantile)\b\s*(\(|by\b|without\b)")


def parts_of(query: MetricQuery) -> dict[str, str]:
    """What is asked, by field: `total`, and `failures` or `sum`."""
    given = {"failures": query.failures, "sum": query.sum, "total": query.total}
    return {name: text for name, text in given.items() if text is not None}


def check_query(metric: AnalysisMetric, at: FieldPath) -> Iterator[Problem]:
    """What is wrong with a metric that has a query."""
    query, here = metric.query, (*at, "query")
    if query is None:
        return
    if _TAKEN.fullmatch(metric.name) or not OWN_NAME.fullmatch(metric.name):
        message = f"{metric.name!r} cannot name a query; use up to 32 lower-case letters, digits and -, like refunds"
        yield Problem(field=(*at, "name"), message=message)
    if (query.failures is None) == (query.sum is None):
        yield Problem(field=here, message="give exactly one of failures (a count) and sum (of values, with bounds)")
    yield from _bounds(metric, query, here)
    for name, text in parts_of(query).items():
        yield from _text(text, (*here, name))


def check_queries(analysis: Analysis, at: FieldPath) -> Iterator[Problem]:
    """What is wrong across the metrics."""
    asked = [metric for metric in analysis.metrics if metric.query is not None]
    if analysis.prometheus is not None:
        if not re.fullmatch(r"https?://\S+", analysis.prometheus):
            message = f"{analysis.prometheus!r} is no URL; write it like http://127.0.0.1:9090"
            yield Problem(field=(*at, "prometheus"), message=message)
        elif not asked:
            yield Problem(field=(*at, "prometheus"), message="cannot act: no metric has a query")
    means = [metric.name for metric in asked if metric.query is not None and metric.query.sum is not None]
    if means and analysis.bursts.seconds:
        message = f"cannot act on {means[0]}, which is a mean: leave bursts out, or count failures instead of a sum"
        yield Problem(field=(*at, "bursts"), message=message)


def check_asked(analysis: Analysis, at: FieldPath) -> Iterator[Problem]:
    """On a laptop: whether there is a Prometheus to ask."""
    for index, metric in enumerate(analysis.metrics):
        if metric.query is not None and analysis.prometheus is None:
            message = "nothing is there to ask: set analysis.prometheus, like http://127.0.0.1:9090"
            yield Problem(field=(*at, "metrics", str(index), "query"), message=message)


def _bounds(metric: AnalysisMetric, query: MetricQuery, at: FieldPath) -> Iterator[Problem]:
    here = (*at, "bounds")
    if query.sum is None:
        if query.bounds:
            yield Problem(field=here, message="cannot act without sum: what failed is 0 or 1")
        return
    values = [bound.value for bound in query.bounds]
    if len(values) != 2 or values[0] >= values[1]:
        message = 'must be the smallest and the largest value of one request, like ["0", "5"]'
        yield Problem(field=here, message=message)
    elif values[0] > 0 and metric.margin.type == "Relative":
        message = f"Relative has no meaning where values begin at {query.bounds[0]}; write Absolute"
        yield Problem(field=(*at[:-1], "margin", "type"), message=message)


def _text(text: str, at: FieldPath) -> Iterator[Problem]:
    bare = _QUOTED.sub('""', text)
    if ARM not in text:
        message = f'has no {ARM}: both arms would get one answer; write it like {{arm="{ARM}"}}'
        yield Problem(field=at, message=message)
    elif len(text) > LONGEST:
        yield Problem(field=at, message=f"{len(text)} characters; a query has at most {LONGEST}")
    elif found := _RATE.search(bare):
        message = f"{found[1]} gives no counter: windows that overlap count a request twice; write the counter itself"
        yield Problem(field=at, message=message)
    elif found := _ADDED.search(bare):
        message = f"{found[1]} hides the restart of one server; write the counters themselves, they are added up"
        yield Problem(field=at, message=message)
