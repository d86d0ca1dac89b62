"""When to look at which deployment: the laptop's stand-in for a controller's work queue."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from modelyard.errors import Conflict, ModelyardError
from modelyard.rollout.loop import look
from modelyard.rollout.ports import World

POLL_S = 0.5
"""How often each alias is read, so that a move in MLflow's pages does what `promote` does."""
_AT_ONCE = 10
_LONGEST_PAUSE_S = 10.0

log = structlog.get_logger()


class Loop:
    """Looks at every deployment again and again, each on its own: one that is slow or failing holds up no other."""

    def __init__(self, world: World, *, poll_s: float = POLL_S, look: Callable[..., float | None] = look) -> None:
        self._world = world
        self._poll_s = poll_s
        self._look = look
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="look")
        self._due: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        self._running: dict[str, Future[None]] = {}
        self._bell = threading.Event()

    def wake(self, key: str) -> None:
        """Something changed at a deployment: look at it now."""
        self._due[key] = 0.0
        self._bell.set()

    def rest(self, seconds: float) -> None:
        """Wait so long, or until somebody calls `wake`."""
        self._bell.wait(seconds)
        self._bell.clear()

    def turn(self, now: float) -> float:
        """Start the looks that are due; gives the seconds until the next one is."""
        keys = self._world.records.keys()
        for key in keys:
            future = self._running.get(key)
            if (future is None or future.done()) and self._due.get(key, 0.0) <= now:
                self._due[key] = now + self._poll_s
                self._running[key] = self._pool.submit(self._look_at, key)
        waiting = [self._due[key] - now for key in keys if self._running[key].done()]
        return max(0.01, min([self._poll_s, *waiting]))

    def stop(self) -> None:
        """Wait for looks that are under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _look_at(self, key: str) -> None:
        """One look, or some where the loop wants the next at once. Nothing that it raises ends the yard."""
        try:
            again = None
            for _ in range(_AT_ONCE):
                now = time.time()
                again = self._look(self._world, key, now=now)
                if again is None or again > now:
                    break
            self._failed.pop(key, None)
            if again is not None:
                self._due[key] = min(self._due[key], again)
        except Conflict as error:
            log.info("changed meanwhile: looking again", key=key, error=str(error))
            self._due[key] = 0.0
        except Exception as error:
            known = isinstance(error, ModelyardError)
            failed = self._failed[key] = self._failed.get(key, 0) + 1
            pause = min(self._poll_s * 2 ** min(failed, 10), _LONGEST_PAUSE_S)
            log.warning("a look failed", key=key, error=str(error), again_in_s=pause, exc_info=not known)
            self._due[key] = time.time() + pause
