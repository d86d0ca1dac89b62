"""A rollout that a real Prometheus decides: it scrapes an exporter, which counts what became of each arm's answers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.queries import COUNT, FakeQueries, RealPrometheus, Shop
from tests.fakes.world import FakeWorld

from modelyard.processes import free_port, wait_until
from modelyard.rollout import prometheus
from modelyard.rollout.prometheus import Asking, asker
from modelyard.spec.deployment import Analysis, AnalysisGate, AnalysisStep, Canary, SetWeight, Strategy
from modelyard.verdict import Outcome, Reason

BINARY = shutil.which("prometheus")
STEPS = Strategy(canary=Canary(steps=(SetWeight(set_weight=50), AnalysisStep(analysis=AnalysisGate()))))
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(BINARY is None, reason="no binary `prometheus` here: apt-get install prometheus"),
]


class Market:
    """A world in memory whose customers a real Prometheus counts."""

    def __init__(self, folder: Path) -> None:
        assert BINARY is not None
        self.shop, self.counted, self.refunds = Shop(), FakeQueries(), {"1": 0.02, "2": 0.02}
        self.prometheus = RealPrometheus(BINARY, folder, free_port(), self.shop.port)
        self.it = FakeWorld.with_stable(analysis=Analysis(metrics=(COUNT,)), strategy=STEPS)
        self.it.queries = Asking(lambda _: self.prometheus.url, hint="")
        self.served = dict(self.it.served)
        self.serve("1", 500)

    def serve(self, version: str, orders: int) -> None:
        """Customers of an arm order; Prometheus knows of it when this is over."""
        self.counted.serve(self.it.arm_of(version), orders=orders, refunds=round(orders * self.refunds[version]))
        seen = self.counted.seen
        self.shop.text = "".join(
            f'orders_total{{arm="{arm}"}} {one["orders"]}\nrefunds_total{{arm="{arm}"}} {one["refunds"]}\n'
            for arm, one in seen.items()
        )

        def scraped() -> bool:
            try:
                found = {one.labels["arm"]: one.value for one in asker()(self.prometheus.url, "orders_total")}
            except prometheus.ModelyardError:
                return False
            return found == {arm: one["orders"] for arm, one in seen.items()}

        wait_until(scraped, deadline_s=20, what="Prometheus' own scrape")

    def over(self) -> bool:
        """For `run(until=…)`: customers follow the traffic."""
        for version, count in self.it.served.items():
            new, self.served[version] = count - self.served.get(version, 0), count
            if new:
                self.serve(version, new)
        return self.it.at_rest

    def bring(self, version: str) -> None:
        self.it.version(version)
        self.it.alias(version)
        self.it.run(until=self.over, looks=100)

    def close(self) -> None:
        self.prometheus.stop()
        self.shop.close()


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Market]:
    monkeypatch.setattr(prometheus, "EVERY_S", 0.0)
    made = Market(tmp_path)
    yield made
    made.close()


def test_customers_that_are_as_content_let_it_in_and_others_do_not(market: Market) -> None:
    market.bring("2")
    assert market.it.stable == "2"
    market.refunds["3"] = 0.5
    market.bring("3")
    verdict = market.it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, Reason.METRIC)
    assert "refunds: 50" in verdict.message
    assert market.it.stable == "2"
