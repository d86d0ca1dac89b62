"""What a Prometheus counts, in memory, and an exporter whose counters a real one scrapes."""

import threading
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from modelyard.processes import spawn, wait_until
from modelyard.rollout.pairs import Pair, Told
from modelyard.spec.deployment import Analysis, AnalysisMetric, MetricMargin, MetricQuery
from modelyard.units import Percentage, Quantity

COUNT = AnalysisMetric(
    name="refunds",
    margin=MetricMargin(type="Absolute", value=Percentage("5%")),
    query=MetricQuery(failures='refunds_total{arm="$arm"}', total='orders_total{arm="$arm"}'),
)
MEAN = AnalysisMetric(
    name="regret",
    margin=MetricMargin(type="Absolute", value=Percentage("5%")),
    query=MetricQuery(
        sum='regret_sum{arm="$arm"}', total='orders_total{arm="$arm"}', bounds=(Quantity("1"), Quantity("5"))
    ),
)


class FakeQueries:
    """The `Queries` port: refunds and regret, as they are served."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, float]] = {}
        """By arm: orders, refunds and regret so far."""
        self.refused = ""
        self.at = 0.0

    def told(self, _key: str, analysis: Analysis, arms: Collection[str]) -> Mapping[str, Told]:
        metrics = [metric for metric in analysis.metrics if metric.query is not None]
        if self.refused:
            return {metric.name: Told(why=self.refused, refused=True) for metric in metrics}
        return {metric.name: self._told(metric, arms) for metric in metrics}

    def _told(self, metric: AnalysisMetric, arms: Collection[str]) -> Told:
        pairs = {}
        for arm in arms:
            if (seen := self.seen.get(arm)) is not None:
                bad = seen["refunds"] if metric.name == "refunds" else (seen["regret"] - seen["orders"]) / 4
                pairs[arm] = Pair(total=int(seen["orders"]), bad=bad)
        missing = [arm for arm in arms if arm not in self.seen]
        return Told(at=self.at, arms=pairs, why=f"nothing for arm {missing[0]}" if missing else "")

    # what happens in the world

    def serve(self, arm: str, *, orders: int, refunds: int = 0, regret: float = 0.0) -> None:
        """Customers ordered from an arm."""
        before = self.seen.get(arm, {"orders": 0, "refunds": 0, "regret": 0.0})
        self.seen[arm] = {
            "orders": before["orders"] + orders,
            "refunds": before["refunds"] + refunds,
            "regret": before["regret"] + regret,
        }

    def vanish(self, arm: str) -> None:
        """Nothing is counted of an arm any more."""
        self.seen.pop(arm)


class Shop:
    """An exporter: what each arm's customers did, in Prometheus' text format."""

    def __init__(self) -> None:
        self.text = ""
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(shop.text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.port = self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class RealPrometheus:
    """A Prometheus process that scrapes one exporter five times a second."""

    def __init__(self, binary: str, folder: Path, port: int, target: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
            f"scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        )
        self.url = f"http://127.0.0.1:{port}"
        self._child = spawn(
            [
                binary, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
            ],
            log=folder / "prometheus.log",
        )  # fmt: skip

    def until(self, ready: Any) -> None:
        wait_until(ready, deadline_s=20, what="Prometheus", child=self._child)

    def stop(self) -> None:
        self._child.stop(5.0)
