"""The workers that poll registries: what moved there wakes the deployments that follow it."""

import random
from collections.abc import Callable

import structlog

from modelyard.errors import ModelyardError
from modelyard_operator.due import Queue
from modelyard_operator.index import Index
from modelyard_operator.metrics import Metrics
from modelyard_operator.reachable import Reachable
from modelyard_operator.registries import Registries

JITTER = 0.1
"""Share of the interval by which polls are spread, so that registries are not asked all at once."""

log = structlog.get_logger()


class Polling:
    """What a worker does with a registry's key."""

    def __init__(
        self,
        registries: Registries,
        *,
        polls: Queue,
        looks: Queue,
        index: Index,
        metrics: Metrics,
        reachable: Reachable,
        leading: Callable[[], bool],
    ) -> None:
        self._registries, self._polls, self._looks, self._reachable = registries, polls, looks, reachable
        self._index, self._metrics, self._leading = index, metrics, leading

    def work(self) -> None:
        """Poll what is due, until the queue is closed."""
        while (taken := self._polls.take()) is not None:
            self.turn(taken.key)

    def turn(self, key: str) -> None:
        """Poll one registry. Nothing that it raises ends the worker."""
        if not self._leading():
            self._polls.done(key, after_s=None)  # who leads next polls
            return
        result, trouble = "error", "a poll crashed: see the operator's log"
        try:
            moved = self._registries.poll(key)
            result = "ok"
            for deployment in self._index.followers(key, moved):
                self._looks.wake(deployment)
        except ModelyardError as error:
            trouble = error.what
            log.info("a registry was not read", registry=key, error=str(error))
        except Exception:
            log.exception("a poll crashed", registry=key)
        interval = self._registries.interval_s(key)
        if interval is None:
            self._polls.done(key, after_s=None)
            self._polls.forget(key)
            self._metrics.forget_registry(key)
            return
        away = self._registries.away(key)
        if away:  # what followers are woken for may be that it went away
            result = "error"
        self._metrics.polled(key, result)
        self._reachable.tell(key, away=trouble if away is None else away, polled=result == "ok")
        spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  no secret
        self._polls.done(key, after_s=interval * spread)
