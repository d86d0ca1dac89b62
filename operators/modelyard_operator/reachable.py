"""What a ModelRegistry's status says: whether it answers. Written when that changes, never at each poll.

When it was last read stands in the metrics, and in the message once it is away: a time that moves every five seconds
would be a write every five seconds.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from modelyard.errors import ModelyardError
from modelyard.kube.port import MODEL_REGISTRY, Kube, Object
from modelyard.spec.objects import told
from modelyard.verdict import Reason
from modelyard_operator.lease import MANAGER

ANSWERS: Final = "Answers"

log = structlog.get_logger()


class Reachable:
    """Writes the condition `Ready` of ModelRegistries.

    Args:
        kube: a leader's: who does not lead writes nothing.
        clock: seconds since the epoch.
    """

    def __init__(self, kube: Kube, *, clock: Callable[[], float] = time.time) -> None:
        self._kube, self._clock = kube, clock
        self._read: dict[str, float] = {}

    def tell(self, key: str, *, away: str, polled: bool) -> None:
        """Say how it stands. What cannot be written now is written after the next poll.

        Args:
            key: `namespace/name`.
            away: why it counts as away; empty: it does not.
            polled: whether it has just answered.
        """
        now = self._clock()
        if polled:
            self._read[key] = now
        namespace, _, name = key.partition("/")
        try:
            found = self._kube.get(MODEL_REGISTRY, namespace, name)
            if found is None:
                self._read.pop(key, None)
                return
            last = self._read.get(key)
            since = (
                "it has not been read since this replica leads" if last is None else f"last read at {told(int(last))}"
            )
            message = f"{away}; {since}" if away else "its aliases are read at each poll"
            status = conditioned(found, ready=not away, message=message, now=now)
            if status is not None:
                self._kube.replace({**found, "status": status}, manager=MANAGER, subresource="status")
        except ModelyardError as error:
            log.info("a ModelRegistry's status was not written", registry=key, error=str(error))


def conditioned(found: Object, *, ready: bool, message: str, now: float) -> dict[str, Any] | None:
    """The status that says so; None: it says so already. While it is away, the first message stays."""
    status = found.get("status") or {}
    before = next((each for each in status.get("conditions") or () if each["type"] == "Ready"), None)
    generation = found["metadata"].get("generation", 1)
    said = "True" if ready else "False"
    reason = ANSWERS if ready else Reason.REGISTRY_UNAVAILABLE.value
    flipped = before is None or before["status"] != said
    if not flipped and before is not None and before.get("observedGeneration") == generation:
        return None
    condition = {
        "type": "Ready",
        "status": said,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": told(int(now)) if before is None or flipped else before["lastTransitionTime"],
    }
    return {**status, "observedGeneration": generation, "conditions": [condition]}
