"""Requests per second and p99 through the gateway: with the operator at work in a canary, and by a route that stands.

    sudo MODELYARD_E2E_KEEP=1 make e2e-smoke
    sudo .venv/bin/python benchmarks/gateway_static_route.py [--rounds 3] [--seconds 15]

On the node that the run on a cluster left up. A canary is held at its first share, where the operator reads counters
and weighs evidence twice a second. Each round asks as fast as some connections can, in turn: through the operator's
route; and, with no operator at all, through one written by hand with the same backends and weights and without retries.
"""

import argparse
import http.client
import json
import os
import statistics
import threading
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

from gateway_first_response import on_the_node, settled
from tests.e2e.cluster import stage
from tests.e2e.cluster.site import SYSTEM, TEAM, Site, is_ready, say
from tests.e2e.cluster.traffic import HOST, PATH, Traffic

CONNECTIONS = 8
STATIC = "static.modelyard.test"


def asked(address: str, host: str, seconds: float) -> dict[str, float]:
    """Ask without a pause; gives requests per second, milliseconds, and failures."""
    took: list[float] = []
    failed, until = [0], time.monotonic() + seconds
    body = json.dumps({"image": [[0.0] * 8] * 8}).encode()

    def work() -> None:
        connection = http.client.HTTPConnection(address, timeout=30)
        while time.monotonic() < until:
            began = time.perf_counter()
            connection.request("POST", PATH, body, {"host": host, "content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            took.append(time.perf_counter() - began)
            failed[0] += answer.status != 200
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    percentiles = statistics.quantiles(took, n=100)
    return {
        "requests/s": round(len(took) / (time.monotonic() - began), 1), "p50, ms": round(1000 * percentiles[49], 1),
        "p99, ms": round(1000 * percentiles[98], 1), "failed": failed[0],
    }  # fmt: skip


def by_hand(site: Site) -> None:
    """A route of our own with what the operator's has by now; weights go with it."""
    (route,) = site.items("httproute", "-n", TEAM)
    made: dict[str, Any] = {
        "apiVersion": route["apiVersion"], "kind": "HTTPRoute", "metadata": {"name": "static", "namespace": TEAM},
        "spec": {**deepcopy(route["spec"]), "hostnames": [STATIC]},
    }  # fmt: skip
    site.apply(json.dumps(made))


def main() -> None:
    """The program."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=15.0)
    given = made.parse_args()
    site, versions = on_the_node()
    site.apply(Path("digits.yaml"))
    stable = site.wait(lambda: settled(site), "a version that is live", deadline_s=600)
    site.wait(lambda: len(site.servers()) == 2 and all(map(is_ready, site.servers())), "two servers")
    gateway = stage.gateway_address(site)
    traffic = Traffic(gateway, rps=10.0).start()
    versions.promote(next(each for each in versions.known()[:2] if each != stable))
    attempt = site.wait(lambda: shared(site), "a share of the canary")["metadata"]["name"]
    patch = ("patch", "modelrollout", attempt, "-n", TEAM, "--type=merge", "-p")
    site.kubectl(*patch, '{"spec": {"paused": true}}')
    by_hand(site)
    traffic.stop()
    rows: dict[str, list[dict[str, float]]] = {"operator at work": [], "static route, no operator": []}
    try:
        for number in range(given.rounds):
            stage.scale(site, SYSTEM, "modelyard-operator", 2)
            site.wait(lambda: stage.leader(site), "a leader")
            time.sleep(20)  # a Lease that was left behind ends, and the operator is back at its canary
            rows["operator at work"].append(asked(gateway, HOST, given.seconds))
            stage.scale(site, SYSTEM, "modelyard-operator", 0)
            rows["static route, no operator"].append(asked(gateway, STATIC, given.seconds))
            say(f"  round {number + 1}: {[each[-1] for each in rows.values()]}")
    finally:
        stage.scale(site, SYSTEM, "modelyard-operator", 2)
        site.kubectl("delete", "httproute", "static", "-n", TEAM)
        site.kubectl(*patch, '{"spec": {"paused": false}}')
    middle = {name: {each: statistics.median(row[each] for row in made) for each in made[0]}
              for name, made in rows.items()}  # fmt: skip
    print(json.dumps({**middle, "rounds": rows, "load": round(os.getloadavg()[0], 1)}, indent=2))


def shared(site: Site) -> dict[str, Any] | None:
    """The newest attempt, once its canary was seen to have a share."""
    newest = site.rollouts()[-1]
    status = newest.get("status") or {}
    share = (status.get("weights", {}).get("confirmed") or {}).get(newest["spec"]["arm"])
    return newest if status.get("phase") == "Progressing" and share else None


if __name__ == "__main__":
    main()
