"""Who writes: one leader, elected by a Kubernetes Lease. kopf has no election of its own.

The rules are client-go's (https://pkg.go.dev/k8s.io/client-go/tools/leaderelection), and none compares the clocks of
two machines: a replica notes by its own monotonic clock when it saw the Lease *change*, and takes it when it has not
changed for `DURATION_S`. A leader stops writing `RENEW_S` after it began its last good renewal, which is before
anybody else can have waited for so long: others saw that renewal later than it began.

    leader    |renew sent|............ writes ............|stops (RENEW_S)
    others        |renewal seen|............... waits (DURATION_S) ...............|takes the Lease

The gap of `DURATION_S - RENEW_S` must hold the longest request (`modelyard.kube.client` gives up earlier), so that a
write that was sent in time has ended. What is late all the same meets its resource version: every write carries one.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from modelyard.errors import Conflict, ModelyardError, Unavailable
from modelyard.kube.port import LEASE, Kube, Object
from modelyard.record import record

DURATION_S = 15.0
RENEW_S = 10.0
RETRY_S = 2.0
MANAGER = "modelyard-operator"
DELETED = "(deleted)"
"""Stands for the holder of a Lease that is gone: whoever it was may still write for a while."""

log = structlog.get_logger()


@record
class Claim:
    """The Lease as it was read."""

    holder: str = ""
    """Empty: nobody's."""
    duration_s: float = DURATION_S
    """As the holder has said: a replica with other settings is waited for as long as it wants."""
    transitions: int = 0
    version: str = ""
    """Its resource version; empty: there is none."""


@record
class Seen:
    """A claim, and when this replica saw it change to that, by its own monotonic clock."""

    claim: Claim
    since: float


Act = Literal["take", "renew", "wait"]


def seen(before: Seen | None, claim: Claim, now: float) -> Seen:
    """What is known after a read: the time moves only when the Lease changed."""
    if before is not None and before.claim.version == claim.version:
        return before
    if before is not None and not claim.version:  # somebody deleted it: its holder may not know yet
        claim = Claim(holder=DELETED, duration_s=before.claim.duration_s)
    return Seen(claim=claim, since=now)


def act(known: Seen, me: str, now: float) -> Act:
    """What to do about the Lease."""
    claim = known.claim
    if claim.holder == me:
        return "renew"
    free = not claim.holder or now - known.since >= claim.duration_s
    return "take" if free else "wait"


def leads(renewed: float | None, now: float) -> bool:
    """Whether whoever began its last good renewal at `renewed` may still write."""
    return renewed is not None and now - renewed < RENEW_S


class Elector:
    """Holds the Lease, or waits for it, until `stop`.

    `leading()` is asked before every write: it needs no request, and is false in time whatever hangs.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        namespace: str,
        name: str,
        me: str,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[bool], None] = lambda _leading: None,
    ) -> None:
        self._kube, self._namespace, self._name, self.me = kube, namespace, name, me
        self._clock, self._changed = clock, changed
        self._known: Seen | None = None
        self._renewed: float | None = None
        self._led = False
        self._end = threading.Event()

    def leading(self) -> bool:
        """Whether this replica may write now."""
        return leads(self._renewed, self._clock())

    def run(self) -> None:
        """Turn after turn, until `stop`."""
        while not self._end.wait(0.0 if self._known is None else RETRY_S):
            self.turn()

    def turn(self) -> bool:
        """Read, then renew, take or wait; gives whether this replica leads."""
        try:
            self._turn()
        except Conflict:
            log.info("another replica was faster", lease=self._name)
        except ModelyardError as error:
            log.warning("the lease could not be read or written", lease=self._name, error=str(error))
        self._tell()
        return self.leading()

    def stop(self) -> None:
        """Let `run` end; the Lease is held until `release`."""
        self._end.set()

    def release(self) -> None:
        """Write no more, and let the next replica take over at once. Only after the last look has ended."""
        held, self._renewed = self._renewed is not None, None
        self._tell()
        if not held:
            return
        try:
            claim = self._read(self._kube.get(LEASE, self._namespace, self._name))
            if claim.holder == self.me:
                self._write(Claim(duration_s=1.0, transitions=claim.transitions, version=claim.version))
        except ModelyardError as error:  # then the next one waits until it expires
            log.warning("the lease could not be released", error=str(error))

    def _turn(self) -> None:
        claim = self._read(self._kube.get(LEASE, self._namespace, self._name))
        self._known = seen(self._known, claim, self._clock())
        decided = act(self._known, self.me, self._clock())
        if decided == "wait":
            self._renewed = None
            return
        began = self._clock()
        taken = claim.transitions + (decided == "take")
        written = self._write(Claim(holder=self.me, transitions=taken, version=claim.version))
        self._known = Seen(claim=written, since=self._clock())
        self._renewed = began

    def _tell(self) -> None:
        now = self.leading()
        if now != self._led:
            self._led = now
            log.info("leading" if now else "not leading", lease=self._name, me=self.me)
            self._changed(now)

    def _read(self, found: Object | None) -> Claim:
        if found is None:
            return Claim()
        spec = found.get("spec") or {}
        return Claim(
            holder=str(spec.get("holderIdentity") or ""),
            duration_s=float(spec.get("leaseDurationSeconds") or DURATION_S),
            transitions=int(spec.get("leaseTransitions") or 0),
            version=str(found["metadata"]["resourceVersion"]),
        )

    def _write(self, claim: Claim) -> Claim:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        metadata: dict[str, Any] = {"name": self._name, "namespace": self._namespace}
        thing: dict[str, Any] = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}
        thing["spec"] = {
            "holderIdentity": claim.holder,
            "leaseDurationSeconds": int(claim.duration_s),
            "leaseTransitions": claim.transitions,
            "renewTime": now,  # for people: nothing here reads it
        }
        if not claim.version:
            return self._read(self._kube.create(thing, manager=MANAGER))
        metadata["resourceVersion"] = claim.version
        return self._read(self._kube.replace(thing, manager=MANAGER))


class NotLeading(Unavailable):
    """This replica may not write: another one leads, or will."""


class Fence:
    """A Kubernetes API that lets no write pass once this replica does not lead."""

    def __init__(self, kube: Kube, leading: Callable[[], bool]) -> None:
        self._kube, self._leading = kube, leading
        self.get, self.list, self.watch = kube.get, kube.list, kube.watch

    def create(self, *args: Any, **kwargs: Any) -> Object:
        """`Kube.create`, by the leader only."""
        return self._checked().create(*args, **kwargs)

    def apply(self, *args: Any, **kwargs: Any) -> Object:
        """`Kube.apply`, by the leader only."""
        return self._checked().apply(*args, **kwargs)

    def replace(self, *args: Any, **kwargs: Any) -> Object:
        """`Kube.replace`, by the leader only."""
        return self._checked().replace(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> None:
        """`Kube.delete`, by the leader only."""
        self._checked().delete(*args, **kwargs)

    def _checked(self) -> Kube:
        check(self._leading)
        return self._kube


def check(leading: Callable[[], bool]) -> None:
    """Refuse what only the leader may do.

    Raises:
        NotLeading: this replica does not lead, or not any more.
    """
    if not leading():
        raise NotLeading("this replica is not the leader", do="let the leader do it")
