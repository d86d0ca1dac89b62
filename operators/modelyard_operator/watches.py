"""What changes in the cluster wakes the deployment that it belongs to. Events say when to look, never what is.

kopf watches what people write, by `on.event` alone: its timers, daemons and change handlers would put finalizers on
every object, and then nothing could be deleted once the operator is gone (nolar/kopf #896, #1088). What we own is
watched by label; a kind that is not installed or not allowed is waited for, and holds up no other.
"""

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import kopf
import structlog

from modelyard.errors import ModelyardError, NotInstalled
from modelyard.kube.cache import Store
from modelyard.kube.metadata import key_of, name_of, namespace_of
from modelyard.kube.port import MODEL_DEPLOYMENT, MODEL_REGISTRY, MODEL_ROLLOUT, Change, Kind, Kube, Object
from modelyard.spec.codec import from_data
from modelyard.spec.metadata import Metadata
from modelyard.spec.registry import ModelRegistry, ModelRegistrySpec
from modelyard_operator.due import Queue, pause_s
from modelyard_operator.index import Index
from modelyard_operator.registries import Registries

OURS: Final = (MODEL_DEPLOYMENT, MODEL_ROLLOUT, MODEL_REGISTRY)
WISHES: Final = (MODEL_DEPLOYMENT, MODEL_REGISTRY)
"""What kopf watches. Attempts are written ten times a rollout by the operator itself: one watch of them is enough."""
DEADLINE_S: Final = 240
"""A watch is begun anew so often."""
SILENCE_S: Final = 60.0
"""A watch that is late by so much is dead."""
ABSENT_S: Final = 60.0
"""How often a kind that is not installed is asked for."""

log = structlog.get_logger()


class Seen:
    """What every watch tells: it keeps the index, and wakes what has to be looked at."""

    def __init__(self, index: Index, looks: Queue, registries: Registries, polls: Queue) -> None:
        self._index, self._looks = index, looks
        self._registries, self._polls = registries, polls

    def change(self, kind: Kind, thing: Object) -> None:
        """An object was made, or is another now."""
        before, after = self._index.put(kind, thing)
        if before is not None and before.matters == after.matters:
            return
        if kind == MODEL_REGISTRY:
            self._registry(thing)
            return
        if before is not None and before.key != after.key:
            self._looks.wake(before.key)
        # What people changed is looked at at once, whatever failed before.
        self._looks.wake(after.key, forgive=kind in OURS and before is not None)

    def gone(self, kind: Kind, name: str) -> None:
        """An object was deleted. `name`: `namespace/name`."""
        entry = self._index.drop(kind, name)
        if kind == MODEL_REGISTRY:
            self._registries.drop(name)
            self._wake_followers(name)
        elif entry is not None:
            self._looks.wake(entry.key, forgive=kind in OURS)

    def only(self, kind: Kind, names: frozenset[str]) -> None:
        """A fresh list has these: the others were deleted while nobody watched."""
        for name in self._index.names(kind) - names:
            self.gone(kind, name)

    def _registry(self, thing: Object) -> None:
        key = key_of(thing)
        try:
            spec = from_data(ModelRegistrySpec, thing["spec"], where=key)
        except ModelyardError as error:
            log.warning("a ModelRegistry cannot be used", registry=key, error=str(error))
            return
        namespace, _, name = key.partition("/")
        self._registries.put(key, ModelRegistry(metadata=Metadata(name=name, namespace=namespace), spec=spec))
        self._polls.wake(key, forgive=True)
        self._wake_followers(key)

    def _wake_followers(self, registry: str) -> None:
        for key in self._index.followers(registry):
            self._looks.wake(key)


class Watch:
    """One kind, listed and watched again and again, in a thread of its own. What is seen is kept, then told."""

    def __init__(self, kube: Kube, store: Store, seen: Seen | None) -> None:
        """`seen`: who is told; nobody is of what wakes no deployment."""
        self._kube, self.kind, self._store, self._seen = kube, store.kind, store, seen
        self._end = threading.Event()
        self._heard = time.monotonic()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"watch {self.kind.plural}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End with the next event, or with the process."""
        self._end.set()

    def trouble(self) -> str:
        """Why this watch counts as dead; empty: it lives."""
        if not self._thread.is_alive():
            return f"the watch of {self.kind.plural} has ended"
        silent = time.monotonic() - self._heard
        late = silent > DEADLINE_S + SILENCE_S
        return f"the watch of {self.kind.plural} is silent for {silent:.0f} s" if late else ""

    def once(self, *, deadline_s: float = DEADLINE_S) -> None:
        """List, then watch until the watch ends.

        Raises:
            ModelyardError: the API did not answer, or as it shall not.
        """
        store, turn = self._store, self._store.turn
        found = self._kube.list(self.kind, namespace=store.namespace, labels=store.labels)
        store.listed(found, turn)
        if self._seen is not None:
            self._seen.only(self.kind, frozenset(key_of(each) for each in found.items))
            for each in found.items:
                self._seen.change(self.kind, each)
        self._heard, self._failures = time.monotonic(), 0
        try:
            self._follow(found.resource_version, deadline_s)
        finally:
            store.lost()

    def _follow(self, version: str, deadline_s: float) -> None:
        store = self._store
        while not self._end.is_set() and store.known:
            changes = self._kube.watch(
                self.kind,
                resource_version=version,
                deadline_s=deadline_s,
                namespace=store.namespace,
                labels=store.labels,
            )
            store.watched()
            for change in changes:
                self._heard = time.monotonic()
                version = change.object["metadata"]["resourceVersion"]
                self._told(change)
                if self._end.is_set():
                    return
            self._heard = time.monotonic()

    def _told(self, change: Change) -> None:
        self._store.told(change)
        if self._seen is None or change.type == "BOOKMARK":
            return
        if change.type == "DELETED":
            self._seen.gone(self.kind, key_of(change.object))
        else:
            self._seen.change(self.kind, change.object)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self.once()
            except NotInstalled:
                self._rest(ABSENT_S)
            except ModelyardError as error:  # Expired, Forbidden, Unavailable: list again
                self._failures += 1
                log.info("a watch begins anew", kind=self.kind.kind, why=str(error))
                self._rest(pause_s(self._failures))

    def _rest(self, seconds: float) -> None:
        self._heard = time.monotonic()
        self._end.wait(seconds)
        self._heard = time.monotonic()


class KopfWatches:
    """What people write, watched by kopf in a thread with an event loop of its own."""

    def __init__(self, seen: Seen, *, namespace: str, stores: Mapping[Kind, Store] | None = None) -> None:
        self._seen, self._namespace, self._stores = seen, namespace, stores or {}
        self._end, self._ready = threading.Event(), threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._why = ""
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it for some seconds."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    @property
    def ready(self) -> bool:
        """Whether the watches have begun."""
        return self._ready.is_set()

    def trouble(self) -> str:
        """Why the watches count as dead; empty: they live.

        A watch that ends by an error other than 410 can leave kopf alive without it (nolar/kopf #787, #1276): so its
        tasks are counted.
        """
        if not self._thread.is_alive():
            return f"kopf has ended: {self._why or 'without a word'}"
        if not self.ready or self._loop is None:
            return ""
        try:
            alive = asyncio.run_coroutine_threadsafe(_watchers(), self._loop).result(5.0)
        except TimeoutError:
            return "kopf's event loop does not answer"
        except RuntimeError as error:
            return f"kopf's event loop has ended: {error}"
        dead = [kind.plural for kind in WISHES if not any(f"{kind.plural}." in name for name in alive)]
        return f"kopf's watch of {', '.join(dead)} has ended" if dead else ""

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except Exception as error:
            self._why = f"{type(error).__name__}: {error}"
            log.exception("kopf has ended")

    async def _operate(self) -> None:
        self._loop = asyncio.get_running_loop()
        await kopf.operator(
            registry=handlers(self._seen, self._stores),
            settings=settings(),
            standalone=True,
            identity=NAME,
            clusterwide=not self._namespace,
            namespaces=[self._namespace] if self._namespace else [],
            stop_flag=self._end,
            ready_flag=self._ready,
        )


NAME: Any = "modelyard-operator"
"""What kopf calls itself. Without one it asks for the user's name, and a pod's user has none in any passwd file."""


def handlers(seen: Seen, stores: Mapping[Kind, Store]) -> kopf.OperatorRegistry:
    """Kopf's handlers: events of our kinds, and nothing that would put a finalizer on anything."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(login)
    for kind in WISHES:
        group, _, version = kind.api_version.partition("/")
        kopf.on.event(group, version, kind.plural, registry=registry, id=f"seen-{kind.plural}")(
            _telling(seen, kind, stores.get(kind))
        )
    return registry


def settings() -> kopf.OperatorSettings:
    """Kopf's settings: it posts nothing, and a connection that is dead without a word is noticed."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.persistence.diffbase_storage = _Nothing()
    made.scanning.disabled = True  # our kinds are there before the operator is; a watch that they lose is a dead one
    made.watching.server_timeout = DEADLINE_S
    made.watching.client_timeout = DEADLINE_S + SILENCE_S
    made.watching.connect_timeout = 10.0
    made.networking.request_timeout = 30.0
    return made


class _Nothing(kopf.DiffBaseStorage):
    """What kopf keeps to tell handlers what changed. Ours ask nobody, and each object would be copied whole twice."""

    def build(self, **_: Any) -> Any:
        """Nothing matters."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Nothing was kept."""

    def store(self, **_: Any) -> None:
        """Nothing is kept."""


def _telling(seen: Seen, kind: Kind, store: Store | None) -> Callable[..., Any]:
    """What is heard is kept before anybody is woken by it, and may come before or after our own watch tells it."""

    async def tell(event: Any, **_: Any) -> None:
        thing = event["object"]
        if event["type"] == "DELETED":
            if store is not None:
                store.doubt((namespace_of(thing), name_of(thing)))
            seen.gone(kind, key_of(thing))
            return
        if store is not None:
            about = {name: value for name, value in thing["metadata"].items() if name != "managedFields"}
            store.learnt({**thing, "metadata": about})
        seen.change(kind, thing)

    return tell


def login(**given: Any) -> Any:
    """As the pod's account, at the address that the kubelet gives each container: no name server need answer."""
    found = kopf.login_with_service_account(**given)
    if found is None:
        return kopf.login_with_kubeconfig(**given)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    where = f"[{host}]" if ":" in host else host
    return dataclasses.replace(found, server=f"https://{where}:{port}") if host else found


async def _watchers() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("watcher for ")]
