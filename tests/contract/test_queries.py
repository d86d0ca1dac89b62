"""What the port `Queries` must do; held against the fake and a real Prometheus that scrapes an exporter.

The real one needs Debian's package `prometheus`; where it is missing, the tests say so and are skipped.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from tests.fakes.queries import COUNT, MEAN, FakeQueries, RealPrometheus, Shop

from modelyard.processes import free_port, wait_until
from modelyard.rollout import prometheus
from modelyard.rollout.pairs import Pair, Told
from modelyard.rollout.ports import Queries
from modelyard.rollout.prometheus import Asking
from modelyard.spec.deployment import Analysis, AnalysisMetric, MetricQuery

KEY, ARMS = "default/digits", ("a1", "b2")
SPEC = Analysis(metrics=(COUNT, MEAN))
BINARY = shutil.which("prometheus")
REAL = pytest.param(
    "prometheus",
    marks=[
        pytest.mark.process,
        pytest.mark.skipif(BINARY is None, reason="no binary `prometheus` here: apt-get install prometheus"),
    ],
)


@dataclass
class World:
    queries: Queries
    serve: Callable[..., None]
    vanish: Callable[[str], None]

    def told(self, metric: AnalysisMetric = COUNT) -> Told:
        return self.queries.told(KEY, SPEC, ARMS)[metric.name]

    def until(self, ready: Callable[[], bool]) -> None:
        wait_until(ready, deadline_s=20, what="what was counted")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, RealPrometheus]]:
    """One Prometheus for all tests: each has arms that no other has."""
    assert BINARY is not None
    shop = Shop()
    process = RealPrometheus(BINARY, tmp_path_factory.mktemp("prometheus"), free_port(), shop.port)
    process.until(lambda: _answers(process.url))
    yield shop, process
    process.stop()
    shop.close()


def _answers(url: str) -> bool:
    try:
        return bool(prometheus.asker()(url, "up"))
    except prometheus.ModelyardError:
        return False


@pytest.fixture(params=["memory", REAL])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    if request.param == "memory":
        fake = FakeQueries()
        return World(fake, fake.serve, fake.vanish)
    monkeypatch.setattr(prometheus, "EVERY_S", 0.0)
    shop, process = request.getfixturevalue("real")
    counted, queries = FakeQueries(), Asking(lambda _: process.url, hint="")

    def show() -> None:
        shop.text = "".join(
            f'orders_total{{arm="{arm}"}} {seen["orders"]}\nrefunds_total{{arm="{arm}"}} {seen["refunds"]}\n'
            f'regret_sum{{arm="{arm}"}} {seen["regret"]}\n'
            for arm, seen in counted.seen.items()
        )

    def serve(arm: str, **what: float) -> None:
        counted.serve(arm, **what)  # type: ignore[arg-type]
        show()

    def vanish(arm: str) -> None:
        counted.vanish(arm)
        show()

    show()
    world = World(queries, serve, vanish)
    world.until(lambda: not world.told().arms)
    return World(Asking(lambda _: process.url, hint=""), serve, vanish)


def test_an_arm_that_nobody_counts_is_absent_not_zero_and_it_is_said(world: World) -> None:
    told = world.told()
    assert dict(told.arms) == {}
    assert "a1" in told.why
    assert not told.refused


def test_both_counts_of_each_arm_are_told_and_only_grow(world: World) -> None:
    world.serve("a1", orders=100, refunds=3)
    world.serve("b2", orders=10, refunds=1)
    world.until(lambda: dict(world.told().arms) == {"a1": Pair(total=100, bad=3), "b2": Pair(total=10, bad=1)})
    world.serve("b2", orders=5, refunds=2)
    world.until(lambda: world.told().arms.get("b2") == Pair(total=15, bad=3))
    assert world.told().why == ""


def test_a_mean_is_scaled_by_its_bounds(world: World) -> None:
    world.serve("a1", orders=100, regret=300.0)
    world.until(lambda: world.told(MEAN).arms.get("a1") == Pair(total=100, bad=50.0))


def test_an_arm_that_vanishes_is_missing_again(world: World) -> None:
    world.serve("a1", orders=100, refunds=3)
    world.until(lambda: "a1" in world.told().arms)
    world.vanish("a1")
    world.until(lambda: "a1" not in world.told().arms)
    assert "a1" in world.told().why


# what only the real one can do


@pytest.fixture
def url(real: tuple[Shop, RealPrometheus]) -> str:
    shop, process = real
    shop.text = 'orders_total{arm="a1"} 10\norders_total{arm="b2"} 20\n'
    wait_until(
        lambda: len(prometheus.asker()(process.url, "orders_total")) == 2, deadline_s=20, what="the exporter's text"
    )
    return process.url


def asked(url: str, query: MetricQuery) -> Told:
    spec = Analysis(metrics=(replace(COUNT, query=query),))
    return Asking(lambda _: url, hint="").told(KEY, spec, ARMS)["refunds"]


TOTAL = 'orders_total{arm="$arm"}'


@pytest.mark.process
@pytest.mark.skipif(BINARY is None, reason="no binary `prometheus` here: apt-get install prometheus")
def test_what_prometheus_refuses_is_told_in_its_own_words_and_by_field(url: str) -> None:
    told = asked(url, MetricQuery(failures='orders_total{arm="$arm"', total=TOTAL))
    assert told.refused
    assert told.why.startswith("failures is refused: ")
    assert "unexpected end of input" in told.why


@pytest.mark.process
@pytest.mark.skipif(BINARY is None, reason="no binary `prometheus` here: apt-get install prometheus")
def test_what_is_no_counter_of_requests_is_missing_and_named(url: str) -> None:
    assert (
        "failures gives 2.5 for arm a1, which counts nothing"
        in asked(url, MetricQuery(failures=f"{TOTAL} / 4", total=TOTAL)).why
    )
    assert "failures gives nan for arm a1" in asked(url, MetricQuery(failures=f"0 * {TOTAL} / 0", total=TOTAL)).why
    assert (
        "failures gives nothing for arm a1; one that exists only once"
        in asked(url, MetricQuery(failures='bad{arm="$arm"}', total=TOTAL)).why
    )


@pytest.mark.process
@pytest.mark.skipif(BINARY is None, reason="no binary `prometheus` here: apt-get install prometheus")
def test_a_counter_that_exists_only_once_it_has_counted_can_be_written_down(url: str) -> None:
    told = asked(url, MetricQuery(failures=f'bad{{arm="$arm"}} or 0 * {TOTAL}', total=TOTAL))
    assert dict(told.arms) == {"a1": Pair(total=10, bad=0), "b2": Pair(total=20, bad=0)}
