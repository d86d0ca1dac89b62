"""Counters of many processes, each of which may begin anew or be away: nothing is counted twice."""

import pytest
from tests.fakes.queries import COUNT, MEAN

from modelyard.errors import BadInput, Unavailable
from modelyard.rollout import prometheus
from modelyard.rollout.pairs import Pair, Told
from modelyard.rollout.prometheus import Answer, Asking
from modelyard.spec.deployment import Analysis

KEY, SPEC = "default/digits", Analysis(metrics=(COUNT,))
Row = dict[str, float | str]


class Scraped:
    """A Prometheus by heart: values by part and pod, in the order stable's failures and total, then the canary's."""

    def __init__(self) -> None:
        self.rows: list[Row] = [{"p": 1}, {"p": 100}, {"q": 0}, {"q": 10}]
        self.asked: list[str] = []
        self.error: Exception | None = None

    def __call__(self, url: str, query: str) -> list[Answer]:
        self.asked.append(query)
        if self.error is not None:
            raise self.error
        return [
            Answer(labels={"modelyard_part": str(part), "pod": pod, "__name__": "x"}, at=7.0, value=float(value))
            for part, row in enumerate(self.rows)
            for pod, value in row.items()
        ]


@pytest.fixture
def scraped(monkeypatch: pytest.MonkeyPatch) -> Scraped:
    monkeypatch.setattr(prometheus, "EVERY_S", 0.0)
    return Scraped()


@pytest.fixture
def asking(scraped: Scraped) -> Asking:
    return Asking(lambda _: "http://prometheus", hint="set it", ask=scraped)


def told(asking: Asking, spec: Analysis = SPEC) -> Told:
    return asking.told(KEY, spec, ("s", "z"))[spec.metrics[0].name]


def test_all_counts_of_a_metric_are_asked_at_once_with_the_arm_s_name(asking: Asking, scraped: Scraped) -> None:
    assert dict(told(asking).arms) == {"s": Pair(total=100, bad=1), "z": Pair(total=10, bad=0)}
    (query,) = scraped.asked
    for text in ('refunds_total{arm="s"}', 'orders_total{arm="s"}', 'refunds_total{arm="z"}', 'orders_total{arm="z"}'):
        assert text in query
    assert told(asking).at == 7.0


def test_a_process_that_begins_anew_keeps_what_it_had(asking: Asking, scraped: Scraped) -> None:
    told(asking)
    scraped.rows[2:] = [{"q": 1}, {"q": 4}]
    assert told(asking).arms["z"] == Pair(total=14, bad=1)


def test_one_of_two_that_is_away_for_a_while_is_not_counted_twice(asking: Asking, scraped: Scraped) -> None:
    both: list[Row] = [{"q": 2, "r": 3}, {"q": 10, "r": 20}]
    scraped.rows[2:] = both
    assert told(asking).arms["z"] == Pair(total=30, bad=5)
    scraped.rows[2:] = [{"q": 2}, {"q": 11}]
    assert told(asking).arms["z"] == Pair(total=31, bad=5)
    scraped.rows[2:] = both
    scraped.rows[3] = {"q": 11, "r": 20}
    assert told(asking).arms["z"] == Pair(total=31, bad=5)


def test_an_arm_whose_every_series_is_gone_is_missing(asking: Asking, scraped: Scraped) -> None:
    told(asking)
    scraped.rows[2:] = [{}, {}]
    assert set(told(asking).arms) == {"s"}
    assert "arm z" in told(asking).why


@pytest.mark.parametrize("value", ["nan", "inf", -1, 2.5])
def test_what_is_no_count_makes_the_arm_missing(asking: Asking, scraped: Scraped, value: float) -> None:
    scraped.rows[3] = {"q": value}
    assert set(told(asking).arms) == {"s"}
    assert "total gives" in told(asking).why


def test_a_mean_is_scaled_also_after_a_restart(asking: Asking, scraped: Scraped) -> None:
    spec = Analysis(metrics=(MEAN,))
    scraped.rows[2:] = [{"q": 30}, {"q": 10}]
    assert told(asking, spec).arms["z"] == Pair(total=10, bad=5.0)
    scraped.rows[2:] = [{"q": 5}, {"q": 1}]
    assert told(asking, spec).arms["z"] == Pair(total=11, bad=6.0)


def test_more_series_than_can_be_remembered_are_refused(asking: Asking, scraped: Scraped) -> None:
    scraped.rows[3] = {f"q{number}": 1 for number in range(prometheus.MOST_SERIES + 1)}
    assert told(asking).refused
    assert "total gives more than 1000 series" in told(asking).why


def test_without_an_address_nobody_is_asked_and_it_is_said_what_to_set(scraped: Scraped) -> None:
    here = told(Asking(lambda _: "", hint="set analysis.prometheus", ask=scraped))
    assert (here.refused, here.why) == (True, "no Prometheus is known: set analysis.prometheus")
    assert scraped.asked == []


def test_one_that_is_away_is_asked_once_for_all_metrics_and_forgets_nothing(asking: Asking, scraped: Scraped) -> None:
    told(asking)
    scraped.error = Unavailable("Prometheus gives no answer", do="wait")
    scraped.asked.clear()
    found = asking.told(KEY, Analysis(metrics=(COUNT, MEAN)), ("s", "z"))
    assert [one.away for one in found.values()] == [True, True]
    assert len(scraped.asked) == 1
    scraped.error, scraped.rows[2:] = None, [{"q": 1}, {"q": 2}]
    assert told(asking).arms["z"] == Pair(total=12, bad=1)


def test_a_refusal_is_about_what_was_written_not_about_what_we_made_of_it(asking: Asking, scraped: Scraped) -> None:
    scraped.error = BadInput("1:9: parse error", do="correct it")
    assert told(asking).why == "failures is refused: 1:9: parse error"
    assert scraped.asked[-1] == 'refunds_total{arm="s"}'


def test_looks_that_follow_at_once_ask_nobody_anew(scraped: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "EVERY_S", 60.0)
    asking = Asking(lambda _: "http://prometheus", hint="", ask=scraped)
    told(asking)
    told(asking)
    assert len(scraped.asked) == 1
