"""Requests through the router, and what Envoy counted of them."""

import httpx

from modelyard.processes import wait_until
from modelyard.rollout.laptop.counters import EnvoyCounters
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.rollout.observation import Counts

KEY = "default/digits"


def post(
    router: EnvoyRouter, body: bytes = b"x", path: str = "/v1/models/digits:predict", **more: object
) -> httpx.Response:
    return httpx.post(router.url + path, content=body, timeout=20, **more)


def counts(router: EnvoyRouter, arm: str, requests: int, answers: int) -> Counts:
    """Counters, once they hold so many attempts and answers."""

    def read():
        found = EnvoyCounters(router).counts(KEY).get(arm)
        return found if found and found.requests >= requests and found.latency[-1] >= answers else None

    return wait_until(read, deadline_s=10, what=f"{requests} attempts and {answers} answers of {arm}")
