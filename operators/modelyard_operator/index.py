"""What is kept of every object that is watched: a few fields, never the object (10,000 whole ones cost 232 MiB).

From these follow what wakes which deployment, who follows which alias, and what the metrics show.
"""

import threading
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from modelyard.kube.metadata import DEPLOYMENT_LABEL, key_of, labels_of, namespace_of
from modelyard.kube.port import DEPLOYMENT, HPA, HTTP_ROUTE, MODEL_DEPLOYMENT, MODEL_ROLLOUT, Kind, Object
from modelyard.spec.objects import moment


class Wish(NamedTuple):
    """What is kept of a ModelDeployment."""

    registry: str
    """`namespace/name` of its ModelRegistry."""
    model: str
    stable: str
    """Version that serves; empty: none."""
    named: str
    """Version that it is to serve, as it was last observed."""
    observed_at: float
    """Since when it is to serve that, seconds since the epoch."""
    rollout: str


class Rollout(NamedTuple):
    """What is kept of a ModelRollout."""

    phase: str


class Entry(NamedTuple):
    """What is kept of any object."""

    key: str
    """`namespace/name` of the ModelDeployment that it belongs to; of itself, where it belongs to none."""
    uid: str
    matters: tuple[Any, ...]
    """What has to change for it to be worth a look."""
    kept: Wish | Rollout | None = None


def entry_of(kind: Kind, thing: Object) -> Entry:
    """What is kept of an object."""
    uid = str(thing["metadata"].get("uid", ""))
    kept = wish_of(thing) if kind == MODEL_DEPLOYMENT else rollout_of(thing) if kind == MODEL_ROLLOUT else None
    return Entry(owner_key(kind, thing), uid, matters(kind, thing), kept)


def owner_key(kind: Kind, thing: Object) -> str:
    """The ModelDeployment that an object belongs to: by its spec, owner or label (which may be cut); else itself."""
    if kind == MODEL_ROLLOUT:
        return f"{namespace_of(thing)}/{thing['spec']['deployment']}"
    owners = thing["metadata"].get("ownerReferences") or ()
    owned_by = [each["name"] for each in owners if each.get("kind") == MODEL_DEPLOYMENT.kind]
    named = owned_by[0] if owned_by else labels_of(thing).get(DEPLOYMENT_LABEL)
    return f"{namespace_of(thing)}/{named}" if named else key_of(thing)


def matters(kind: Kind, thing: Object) -> tuple[Any, ...]:
    """What has to change for an object to be worth a look: not what we write ourselves, nor what says nothing new.

    An HPA's status says every 15 s how busy its pods are; a Deployment's says which of them are ready.
    """
    metadata, status = thing["metadata"], thing.get("status") or {}
    generation = metadata.get("generation", metadata.get("resourceVersion"))
    seen = (metadata.get("uid"), generation, "deletionTimestamp" in metadata)
    if kind == DEPLOYMENT:
        counts = ("observedGeneration", "replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
        return (*seen, *(status.get(name) for name in counts), _conditions(status))
    if kind == HTTP_ROUTE:
        return (*seen, tuple(_conditions(parent) for parent in status.get("parents") or ()))
    if kind == HPA:
        return (*seen, status.get("desiredReplicas"), _conditions(status))
    return seen


def _conditions(status: Mapping[str, Any]) -> tuple[tuple[Any, ...], ...]:
    said = ("type", "status", "reason", "observedGeneration")
    return tuple(tuple(each.get(name) for name in said) for each in status.get("conditions") or ())


def wish_of(thing: Object) -> Wish:
    """What is kept of a ModelDeployment."""
    model, status = thing["spec"]["model"], thing.get("status") or {}
    alias = status.get("alias") or {}
    registry = (model.get("registryRef") or {}).get("name", "main")
    return Wish(
        registry=f"{namespace_of(thing)}/{registry}",
        model=str(model["name"]),
        stable=str((status.get("stable") or {}).get("version", "")),
        named=str(alias.get("version", "")),
        observed_at=_moment(alias.get("observedAt")),
        rollout=str(status.get("rollout") or ""),
    )


def _moment(text: Any) -> float:
    """Seconds since the epoch; 0 for what is no time: whoever wrote that into a status must not end a watch."""
    try:
        return moment(str(text))
    except ValueError:
        return 0.0


def rollout_of(thing: Object) -> Rollout:
    """What is kept of a ModelRollout."""
    return Rollout(phase=str((thing.get("status") or {}).get("phase", "Pending")))


class Index:
    """Entries by kind and `namespace/name`. Safe to use from many threads."""

    def __init__(self) -> None:
        self._entries: dict[Kind, dict[str, Entry]] = {}
        self._lock = threading.Lock()

    def put(self, kind: Kind, thing: Object) -> tuple[Entry | None, Entry]:
        """Keep what matters of an object; gives what was kept before, and now."""
        after = entry_of(kind, thing)
        with self._lock:
            mine = self._entries.setdefault(kind, {})
            before = mine.get(key_of(thing))
            mine[key_of(thing)] = after
        return before, after

    def drop(self, kind: Kind, name: str) -> Entry | None:
        """Forget an object."""
        with self._lock:
            return self._entries.get(kind, {}).pop(name, None)

    def names(self, kind: Kind) -> frozenset[str]:
        """All objects of a kind."""
        with self._lock:
            return frozenset(self._entries.get(kind, ()))

    def entry(self, kind: Kind, name: str) -> Entry | None:
        """What is kept of one object."""
        with self._lock:
            return self._entries.get(kind, {}).get(name)

    def entries(self, kind: Kind) -> Mapping[str, Entry]:
        """What is kept of all objects of a kind."""
        with self._lock:
            return dict(self._entries.get(kind, {}))

    def followers(self, registry: str, models: Collection[str] | None = None) -> tuple[str, ...]:
        """The deployments of a registry: of these models, or of all."""
        return tuple(
            key
            for key, entry in self.entries(MODEL_DEPLOYMENT).items()
            if isinstance(entry.kept, Wish)
            and entry.kept.registry == registry
            and (models is None or entry.kept.model in models)
        )

    def counts(self) -> Mapping[str, int]:
        """How many objects of each kind are kept."""
        with self._lock:
            return {kind.kind: len(mine) for kind, mine in self._entries.items()}
