"""One replica of the operator over a cluster in memory: its lease, watches, polls and looks, without threads."""

from collections.abc import Callable
from contextlib import suppress

from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.source import Source
from tests.fakes.world import KEY

from modelyard.errors import ModelyardError
from modelyard.kube.cache import Cached, Store
from modelyard.kube.metadata import DEPLOYMENT_LABEL
from modelyard.kube.port import MODEL_DEPLOYMENT, MODEL_REGISTRY, Kind, Kube
from modelyard.rollout.ports import World
from modelyard.spec.codec import from_data
from modelyard.spec.deployment import DeploymentSpec
from modelyard.spec.metadata import Metadata
from modelyard.spec.registry import ModelRegistry, ModelRegistrySpec
from modelyard_operator.due import Queue, Taken
from modelyard_operator.index import Index
from modelyard_operator.lease import Elector, Fence
from modelyard_operator.looking import Looking
from modelyard_operator.metrics import Metrics
from modelyard_operator.operator import OWNED, READ
from modelyard_operator.registries import Registries
from modelyard_operator.telling import Events
from modelyard_operator.watches import OURS

REGISTRY = "default/main"
METRICS = Metrics(Index(), Queue())
"""One for all: to make them takes as long as twenty looks, and nobody reads these."""


class Replica:
    """A process: killed, everything that it knows is gone with it."""

    def __init__(self, it: ClusterWorld, me: str, *, always: bool = False, offset: float = 0.0) -> None:
        """`always`: it takes itself for the leader whatever the Lease says; `offset`: of its monotonic clock."""
        self.it, self.me, self.always, kube = it, me, always, it.kube
        self.elector = Elector(kube, namespace="modelyard", name="operator", me=me, clock=lambda: it.now + offset)
        self.leading: Callable[[], bool] = (lambda: True) if always else self.elector.leading
        ours = {DEPLOYMENT_LABEL: None}
        stores = [Store(kind, clock=lambda: it.now + offset) for kind in OURS]
        stores += [Store(kind, labels=ours, clock=lambda: it.now + offset) for kind in (*OWNED, *READ)]
        self.cache = Cached(kube, stores)
        self.late: dict[Kind, int] = {}
        """For so many turns the watch of a kind tells nothing."""
        self._versions: dict[Kind, str] = {}
        self._led = False
        self.fence: Kube = Fence(self.cache, self.leading)
        self.queue, index = Queue(), Index()
        for each in kube.peek(MODEL_DEPLOYMENT):
            index.put(MODEL_DEPLOYMENT, each)
        source = Source(it.registry)
        self.registries = Registries(kube, connect=lambda *_: source, clock=lambda: it.now + offset)  # type: ignore[arg-type, return-value]
        (spec,) = kube.peek(MODEL_REGISTRY)
        self.registries.put(REGISTRY, ModelRegistry(
            metadata=Metadata(name="main"), spec=from_data(ModelRegistrySpec, spec["spec"])))  # fmt: skip
        self.world: World = it.world(self.fence)
        self.looking = Looking(
            self.world,
            queue=self.queue,
            index=index,
            registries=self.registries,
            events=Events(self.fence, index, me=me),
            metrics=METRICS,
            leading=self.leading,
            then=self.then,
            clock=lambda: it.now,
        )

    def then(self, key: str, spec: DeploymentSpec) -> None:
        """As the operator's wiring does."""
        self.world.arms.keep(key, spec)  # type: ignore[attr-defined]
        self.world.router.keep(key, spec)  # type: ignore[attr-defined]

    def hear(self) -> None:
        """What the watches tell who leads; the operator lists all anew when it begins to."""
        if not self.leading():
            self._led = False
            return
        with self.it.controllers.unseen():
            if not self._led:
                self.cache.renew()
            self._led = True
            for kind, store in self.cache.stores.items():
                if kind not in self._versions:
                    found = self.it.kube.list(kind, labels=store.labels)
                    store.listed(found, store.turn)
                    self._versions[kind] = found.resource_version
                store.watched()
                since, late = self._versions[kind], self.late.get(kind, 0)
                self.late[kind] = max(0, late - 1)
                if late or int(since) >= self.it.kube.changed_at(kind):
                    continue
                for change in self.it.kube.watch(kind, resource_version=since, deadline_s=0.0, labels=store.labels):
                    store.told(change)
                    self._versions[kind] = change.object["metadata"]["resourceVersion"]

    def turn(self) -> None:
        """Renew the Lease, hear, poll, look once."""
        if not self.always:
            self.elector.turn()
        self.hear()
        with suppress(ModelyardError):
            self.registries.poll(REGISTRY)
        self.look()

    def look(self) -> None:
        """One look, whatever is due."""
        self.queue.wake(KEY, forgive=True)
        taken = self.queue.take()
        assert taken is not None
        self.looking.turn(Taken(KEY, 0.0))

    @property
    def idle(self) -> bool:
        """Whether the last look wants no other."""
        return len(self.queue) == 0
