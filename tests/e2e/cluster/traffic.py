"""A client that never pauses, outside of the node: it sends real test images to the gateway and notes each answer.

Every third request takes a connection of its own: one that is kept open would never meet a gateway that refuses.
"""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx

HOST: Final = "digits.modelyard.test"
PATH: Final = "/v1/models/digits:predict"
FRESH: Final = 3


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    at: float
    """When it was sent, by the monotonic clock."""
    took_s: float
    status: int
    """0: no answer."""
    version: str
    """That answered; empty where none did."""
    what: str = ""
    """Of a request that failed."""

    @property
    def failed(self) -> bool:
        """Whether the client did not get its prediction."""
        return self.status != 200


class Traffic:
    """Requests at an even pace from several connections, until `stop`."""

    def __init__(self, gateway: str, *, rps: float, connections: int = 6) -> None:
        from sklearn.datasets import load_digits

        self._url, self._pause = f"http://{gateway}{PATH}", 1 / rps
        self._bodies = [json.dumps({"image": image.tolist()}).encode() for image in load_digits().images[-300:]]
        self._end, self._lock = threading.Event(), threading.Lock()
        self._numbers, self._began = itertools.count(), time.monotonic()
        self._answers: list[Answer] = []
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(connections)]

    def start(self) -> "Traffic":
        """Begin."""
        for worker in self._workers:
            worker.start()
        return self

    def stop(self) -> None:
        """End, after what is under way was answered."""
        self._end.set()
        for worker in self._workers:
            worker.join(30)

    def pace(self, rps: float) -> None:
        """Send so many requests a second from now on."""
        with self._lock:
            self._pause, self._numbers, self._began = 1 / rps, itertools.count(), time.monotonic()

    def answers(self, since: float = 0.0) -> Sequence[Answer]:
        """Of requests that were sent since then."""
        with self._lock:
            return [answer for answer in self._answers if answer.at >= since]

    def versions(self, since: float) -> Counter[str]:
        """How often each version answered."""
        return Counter(answer.version for answer in self.answers(since) if not answer.failed)

    def failures(self, since: float = 0.0) -> list[Answer]:
        """What the client did not get."""
        return [answer for answer in self.answers(since) if answer.failed]

    def _work(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._end.is_set():
                with self._lock:
                    number = next(self._numbers)
                    due = self._began + number * self._pause
                if self._end.wait(max(0.0, due - time.monotonic())):
                    return
                answer = self._ask(client, self._bodies[number % len(self._bodies)], fresh=number % FRESH == 0)
                with self._lock:
                    self._answers.append(answer)

    def _ask(self, client: httpx.Client, body: bytes, *, fresh: bool) -> Answer:
        sent = time.monotonic()
        about = {"host": HOST, "content-type": "application/json", "connection": "close" if fresh else "keep-alive"}
        try:
            got = client.post(self._url, content=body, headers=about)
        except httpx.HTTPError as error:
            return Answer(sent, time.monotonic() - sent, 0, "", repr(error))
        version = got.headers.get("x-modelyard-version", "")
        what = "" if got.status_code == 200 else got.text[:200]
        return Answer(sent, time.monotonic() - sent, got.status_code, version, what)
