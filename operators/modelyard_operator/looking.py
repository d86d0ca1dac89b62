"""The workers: each takes a deployment that is due, looks at it as on a laptop, and says when to come back."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import structlog

from modelyard.errors import ModelyardError
from modelyard.kube.port import MODEL_DEPLOYMENT
from modelyard.registry.port import Followed, Version
from modelyard.rollout.loop import Then, look
from modelyard.rollout.ports import World
from modelyard.verdict import Verdict
from modelyard_operator.due import Queue, Taken
from modelyard_operator.index import Index
from modelyard_operator.lease import check
from modelyard_operator.metrics import Metrics
from modelyard_operator.registries import Registries
from modelyard_operator.telling import Events, Note, Told

SETTLING_S = 0.2
"""When to come back where the registry's first poll is under way."""
AT_ONCE = 8
"""Looks in one turn, where each wants the next one at once."""
OWED_S = 2.0
"""So long what nobody waits for may be left for later while others wait."""
PATIENCE_S = 1.0
"""No key is polled sooner while others wait."""
BESIDE_S = 30.0
"""When to come back to what is at rest but for something beside the rollout, such as a kind that is not installed."""

log = structlog.get_logger()


class _Owed(NamedTuple):
    """What a key is owed: since when, and what is to be told of it."""

    since: float
    notes: list[Note]


class Fenced:
    """A registry that only the leader writes to."""

    def __init__(self, registry: Followed, leading: Callable[[], bool]) -> None:
        self._registry, self._leading = registry, leading

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        """What the alias names."""
        return self._registry.resolve(model, alias)

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of a model."""
        return self._registry.versions(model)

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        """Move the alias, as leader."""
        check(self._leading)
        self._registry.move_alias(model, alias, version, expected=expected)

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Tag, as leader."""
        check(self._leading)
        self._registry.tag(model, version, tags)


class Looking:
    """What a worker does with a key. `world` is shared by all: its ports check themselves who leads."""

    def __init__(
        self,
        world: World,
        *,
        queue: Queue,
        index: Index,
        registries: Registries,
        events: Events,
        metrics: Metrics,
        leading: Callable[[], bool],
        then: Then | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._world, self._queue, self._index, self._registries = world, queue, index, registries
        self._events, self._metrics, self._leading = events, metrics, leading
        self._then, self._clock = then, clock
        self._owed: dict[str, _Owed] = {}

    def work(self) -> None:
        """Look at what is due, until the queue is closed."""
        while (taken := self._queue.take()) is not None:
            self.turn(taken)

    def turn(self, taken: Taken) -> None:
        """Look at one deployment. Nothing that it raises ends the worker."""
        began = time.monotonic()
        namespace, _, name = taken.key.partition("/")
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(namespace=namespace, name=name)
        result = "crash"
        try:
            result = self._turn(taken.key)
        except ModelyardError as error:
            result = "trouble"
            log.warning("a look came to nothing", error=str(error), again_in_s=self._queue.failed(taken.key))
        except Exception:
            log.exception("a look crashed", again_in_s=self._queue.failed(taken.key))
        finally:
            self._metrics.looked(result, seconds=time.monotonic() - began, waited=began - taken.since)

    def _turn(self, key: str) -> str:
        """Look until there is something to wait for: who comes first gets its canary first."""
        for left in reversed(range(AT_ONCE)):
            if not self._leading():
                self._owed.pop(key, None)
                self._queue.done(key, after_s=None)  # who leads next looks at everything
                return "ok"
            after_s = self._look(key)
            trouble = self._world.troubles.get(key)
            if trouble is not None and not trouble.beside:
                self._queue.failed(key)
                return "trouble"
            if left and after_s is not None and after_s <= 0:
                continue
            self._queue.done(key, after_s=after_s)
            return "ok"
        raise AssertionError("the last look returns")

    def _look(self, key: str) -> float | None:
        """Look once; gives the seconds until the next look."""
        wish = self._world.records.deployment(key)
        registry = "" if wish is None else f"{wish.metadata.namespace}/{wish.spec.model.registry_ref.name}"
        if wish is not None and not self._registries.settled(registry):
            return SETTLING_S
        told = Told(self._world.records, key, wish)
        followed = Fenced(self._registries.followed(registry), self._leading)
        world = replace(self._world, records=told, registry=followed)
        now, spare = self._clock(), self._spare(key)
        again = look(world, key, now=now, then=self._then if spare else None)
        owed = self._owed.pop(key, None) or _Owed(time.monotonic(), [])
        owed.notes.extend(told.notes)
        if wish is None:
            self._events.tell(key, owed.notes, now=now)
            if self._index.entry(MODEL_DEPLOYMENT, key) is None:
                self._queue.forget(key)
            return None if again is None else max(0.0, again - now)
        at_once = again is not None and again <= now
        if spare and not at_once:
            self._events.tell(key, owed.notes, now=now)
        else:
            self._owed[key] = owed
            soonest = now if at_once else now + PATIENCE_S  # what is waited for wakes it by itself
            again = max(soonest, min(now + OWED_S, now + OWED_S if again is None else again))
        trouble = world.troubles.get(key)
        if trouble is not None and trouble.beside and again is None:
            again = now + BESIDE_S
        return None if again is None else max(0.0, again - now)

    def _spare(self, key: str) -> bool:
        """Whether there is time for what nobody waits for: what surrounds the arms, and Events.

        While other keys are due it is owed, for `OWED_S` at most: an arm's Deployment comes before another's budget.
        """
        owed = self._owed.get(key)
        return self._queue.age_s() <= 0 or (owed is not None and time.monotonic() - owed.since >= OWED_S)
