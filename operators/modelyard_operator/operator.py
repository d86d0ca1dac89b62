"""The operator, put together: watches fill a queue, workers look, one replica of all writes."""

import threading
from collections.abc import Callable
from typing import NamedTuple

import structlog

from modelyard.kube.cache import Cached, Store
from modelyard.kube.metadata import DEPLOYMENT_LABEL
from modelyard.kube.port import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HPA,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    MODEL_REGISTRY,
    NETWORK_POLICY,
    PDB,
    POD,
    SCALED_OBJECT,
    SERVICE,
    Kube,
)
from modelyard.record import record
from modelyard.rollout.loop import Then
from modelyard.rollout.ports import World
from modelyard_operator.due import Queue
from modelyard_operator.index import Index
from modelyard_operator.lease import RETRY_S, Elector, Fence
from modelyard_operator.looking import Looking
from modelyard_operator.metrics import Counted, Metrics
from modelyard_operator.polling import Polling
from modelyard_operator.probes import Probes
from modelyard_operator.reachable import Reachable
from modelyard_operator.registries import Connect, Registries, connect
from modelyard_operator.telling import Events
from modelyard_operator.watches import OURS, KopfWatches, Seen, Watch

OWNED = (DEPLOYMENT, SERVICE, HTTP_ROUTE, HPA, SCALED_OBJECT, PDB, NETWORK_POLICY)
"""What we own and a person or a controller may change. A change of any of them is worth a look."""
READ = (CONTROLLER_REVISION, POD)
"""What looks read besides. A change of a pod shows in its Deployment's status."""
RESYNC_S = 600.0
"""Everything is looked at so often, whatever was or was not heard: a missed event leaves nothing wrong for good
(argoproj/argo-rollouts #3316)."""
POLLERS = 4
STOP_S = 20.0
"""Looks under way may take so long at the end; the Lease is released after them."""

log = structlog.get_logger()


@record
class Settings:
    """What the command line says."""

    me: str
    """This replica's name: no other process ever has it."""
    namespace: str = ""
    """The one that is watched; empty: all."""
    lease_namespace: str = "modelyard"
    lease: str = "modelyard-operator"
    host: str = "0.0.0.0"  # noqa: S104  the kubelet and Prometheus come from outside of the pod
    port: int = 8080
    """For probes, metrics and hints; 0: any that is free."""
    workers: int = 8
    """Looks at the same time."""


class Made(NamedTuple):
    """A world over a Kubernetes API; its registry is chosen for each look."""

    world: World
    then: Then | None = None


class Operator:
    """Everything, from `start` to `stop`."""

    def __init__(
        self,
        kube: Kube,
        settings: Settings,
        *,
        make: Callable[[Kube], Made],
        connect: Connect = connect,
    ) -> None:
        self.settings = settings
        self.looks, self.polls, self.index = Queue(), Queue(), Index()
        self.metrics = Metrics(self.index, self.looks)
        counted = Counted(kube, self.metrics)
        self.elector = Elector(
            counted,
            namespace=settings.lease_namespace,
            name=settings.lease,
            me=settings.me,
            changed=self._led,
        )
        namespace, ours = settings.namespace, {DEPLOYMENT_LABEL: None}
        stores = [Store(kind, namespace=namespace) for kind in OURS]
        stores += [Store(kind, namespace=namespace, labels=ours) for kind in (*OWNED, *READ)]
        self.cache = Cached(counted, stores)
        self._term, self._begun = 0, 0
        fenced = Fence(self.cache, self.leading)
        self.registries = Registries(counted, connect=connect)
        made = make(fenced)
        self.world = made.world
        events = Events(fenced, self.index, me=settings.me)
        self.seen = Seen(self.index, self.looks, self.registries, self.polls)
        self.kopf = KopfWatches(self.seen, namespace=namespace, stores=self.cache.stores)
        self.watches = [Watch(counted, store, None if store.kind in READ else self.seen) for store in stores]
        self.looking = Looking(
            made.world,
            queue=self.looks,
            index=self.index,
            registries=self.registries,
            events=events,
            metrics=self.metrics,
            leading=self.leading,
            then=made.then,
        )
        self.polling = Polling(
            self.registries,
            polls=self.polls,
            looks=self.looks,
            index=self.index,
            metrics=self.metrics,
            reachable=Reachable(fenced),
            leading=self.leading,
        )
        self._end = threading.Event()
        self._workers: list[threading.Thread] = []
        self._elections = threading.Thread(target=self.elector.run, name="lease", daemon=True)
        self.probes: Probes | None = None

    def start(self) -> None:
        """Serve probes, watch, and wait for the Lease."""
        self.probes = Probes(
            (self.settings.host, self.settings.port),
            health=self.health,
            readiness=self.readiness,
            metrics=self.metrics.text,
            secret_of=self.registries.webhook_secret,
            hint=self.polls.wake,
        )
        self.kopf.start()
        for watch in self.watches:
            watch.start()
        jobs = [("look", self.looking.work)] * self.settings.workers + [("poll", self.polling.work)] * POLLERS
        for number, (name, job) in enumerate(jobs):
            worker = threading.Thread(target=job, name=f"{name} {number}", daemon=True)
            worker.start()
            self._workers.append(worker)
        threading.Thread(target=self._resync, name="resync", daemon=True).start()
        self._elections.start()
        log.info("up", me=self.settings.me, port=self.probes.port)

    def stop(self) -> None:
        """End the looks, then give the Lease away: the next replica takes over at once."""
        self._end.set()
        self.looks.close()
        self.polls.close()
        for worker in self._workers:
            worker.join(STOP_S)
        self.elector.stop()
        self._elections.join(RETRY_S + STOP_S)
        self.elector.release()
        for watch in self.watches:
            watch.stop()
        self.kopf.stop()
        if self.probes is not None:
            self.probes.stop()
        log.info("down", me=self.settings.me)

    def health(self) -> str:
        """Why the kubelet should restart this replica; empty: it should not."""
        if not self._elections.is_alive() and not self._end.is_set():
            return "nobody looks after the Lease any more"
        dead = sum(not worker.is_alive() for worker in self._workers)
        if dead and not self._end.is_set():
            return f"{dead} workers have ended"
        troubles = (self.kopf.trouble(), *(watch.trouble() for watch in self.watches))
        return next((trouble for trouble in troubles if trouble), "")

    def readiness(self) -> str:
        """Why this replica cannot lead yet; empty: it can."""
        return "" if self.kopf.ready else "the watches have not begun"

    def leading(self) -> bool:
        """Whether this replica may act: it holds the Lease, and has read everything since it does."""
        return self._begun == self._term and self.elector.leading()

    def _led(self, now: bool) -> None:
        """This replica leads from now on, or not any more."""
        self.metrics.leading(now)
        self.world.memory.clear()  # what another leader did is in the records
        self.world.troubles.clear()
        self._term += 1
        if now:  # in a thread of its own: the Lease has to be renewed meanwhile
            threading.Thread(target=self._begin, args=(self._term,), name="begin", daemon=True).start()

    def _begin(self, term: int) -> None:
        """Read everything anew, then write: of what the last leader did, parts may have been heard of, and others not.

        The loop reads an arm or a route before the attempt that it belongs to, so that what acts on the one by the
        other is never behind it; two watches keep no such order, and only our own writes are known at once.
        """
        self.cache.renew()
        self._begun = term
        self._wake_all(spread_s=0.0)

    def _resync(self) -> None:
        while not self._end.wait(RESYNC_S):
            self._wake_all(spread_s=RESYNC_S / 10)

    def _wake_all(self, *, spread_s: float) -> None:
        for registry in self.index.names(MODEL_REGISTRY):
            self.polls.wake(registry)
        keys = sorted(self.index.names(MODEL_DEPLOYMENT))
        for place, key in enumerate(keys):
            self.looks.wake(key, after_s=spread_s * place / len(keys))
