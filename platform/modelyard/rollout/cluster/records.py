"""Wishes and attempts as custom resources: what `kubectl get mdep` shows, with the API server's own concurrency.

A ModelRollout is owned by its ModelDeployment, so it goes with it, and found by a label.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from modelyard.errors import BadInput, Conflict
from modelyard.kube.metadata import DEPLOYMENT_LABEL, fit, key_of, owner_reference, resource_version_of
from modelyard.kube.port import MODEL_DEPLOYMENT, MODEL_ROLLOUT, Kind, Kube, Object
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.objects import from_object, to_object
from modelyard.spec.rollout import ModelRollout

Stored = ModelDeployment | ModelRollout
T = TypeVar("T", ModelDeployment, ModelRollout)

KINDS: Final[Mapping[type, Kind]] = {ModelDeployment: MODEL_DEPLOYMENT, ModelRollout: MODEL_ROLLOUT}
SWITCHES: Final = ("paused", "abort", "promote", "resumed")
"""What people set on an attempt. Written as a patch of these fields alone, so that a role for it need grant no more;
all of them each time, since an apply gives up what it gave before and gives no more."""
WRITTEN: Final = 256
"""How many of our last writes are remembered: a second one needs no read, which a cache would answer with the past."""
READ: Final = 1024
"""How many records are remembered as they were read: at one resource version an object is one and the same, and to
check it against its type takes longer than all else of a look at what has not changed."""


class KubeRecords:
    """`Records` over a Kubernetes API; of one namespace, or of all."""

    def __init__(self, kube: Kube, *, manager: str, namespace: str = "") -> None:
        self._kube = kube
        self._manager = manager
        self._namespace = namespace
        self._written: OrderedDict[tuple[Kind, str], Object] = OrderedDict()
        self._read: OrderedDict[tuple[str, str], Stored] = OrderedDict()

    def keys(self) -> tuple[str, ...]:
        """All ModelDeployments, as `namespace/name`, sorted."""
        found = self._kube.list(MODEL_DEPLOYMENT, namespace=self._namespace).items
        return tuple(sorted(key_of(each) for each in found if not _is_leaving(each)))

    def deployment(self, key: str) -> ModelDeployment | None:
        """The wish; None when it was deleted, or is being deleted.

        Raises:
            BadInput: it does not fit our type; the message names the field.
        """
        namespace, _, name = key.partition("/")
        found = self._kube.get(MODEL_DEPLOYMENT, namespace, name)
        return None if found is None or _is_leaving(found) else self._of(ModelDeployment, found)

    def rollouts(self, key: str) -> tuple[ModelRollout, ...]:
        """Its attempts, oldest first: by the number in their names.

        Raises:
            BadInput: one does not fit our type; the message names it and the field.
        """
        namespace, _, name = key.partition("/")
        found = self._kube.list(MODEL_ROLLOUT, namespace=namespace, labels={DEPLOYMENT_LABEL: fit(name)}).items
        read = [self._of(ModelRollout, each) for each in found if not _is_leaving(each)]
        mine = [each for each in read if each.spec.deployment == name]  # a label that was cut may be two names'
        return tuple(sorted(mine, key=lambda each: (len(each.metadata.name), each.metadata.name)))

    def write(self, record: Stored) -> Stored:
        """Make `record`, or write its spec (with labels and annotations), or its status; see the port.

        Raises:
            Conflict: it is not at that resource version any more (empty: it exists already; gone: too).
            BadInput: it changes spec and status at once, or is new and has a status.
        """
        if isinstance(record, ModelDeployment):
            return self._write(ModelDeployment, record)
        return self._write(ModelRollout, record)

    def _write(self, cls: type[T], record: T) -> T:
        kind, named = KINDS[cls], f"{record.kind} {record.metadata.namespace}/{record.metadata.name}"
        if not record.metadata.resource_version:
            if record.status != type(record.status)():
                raise BadInput(f"{named} is new and has a status", do="write it without, then write its status")
            return self._remember(cls, self._kube.create(self._new(record), manager=self._manager))
        live = self._live(kind, record)
        before = self._of(cls, live)
        spec, status = _wish_of(record) != _wish_of(before), record.status != before.status
        if spec and status:
            raise BadInput(f"{named} changes spec and status in one write", do="write the one, then the other")
        if not (spec or status):
            return before
        wanted = to_object(record)
        if status:
            thing = {**live, "status": wanted["status"]}
            return self._remember(cls, self._kube.replace(thing, manager=self._manager, subresource="status"))
        if _only_switches(before, record):
            about = {name: live["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
            switches = {name: getattr(record.spec, name) for name in SWITCHES}
            thing = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, "spec": switches}
            return self._remember(cls, self._kube.apply(thing, manager=self._manager, force=True))
        metadata = {**live["metadata"], **_given(wanted["metadata"], "labels", "annotations")}
        thing = {
            **live,
            "metadata": metadata,
            "spec": _changed(live["spec"], to_object(before)["spec"], wanted["spec"]),
        }
        return self._remember(cls, self._kube.replace(thing, manager=self._manager))

    def delete(self, record: Stored) -> None:
        """Remove it, and in the background what it owns; nothing when it is gone."""
        kind = KINDS[type(record)]
        self._written.pop((kind, f"{record.metadata.namespace}/{record.metadata.name}"), None)
        self._kube.delete(kind, record.metadata.namespace, record.metadata.name)

    def _new(self, record: Stored) -> dict[str, Any]:
        thing = to_object(record)
        thing.pop("status", None)
        if isinstance(record, ModelRollout):
            metadata, name = thing["metadata"], record.spec.deployment
            metadata["labels"] = {**metadata.get("labels", {}), DEPLOYMENT_LABEL: fit(name)}
            owner = self._kube.get(MODEL_DEPLOYMENT, record.metadata.namespace, name)
            if owner is not None:
                metadata["ownerReferences"] = [owner_reference(owner)]
        return thing

    def _live(self, kind: Kind, record: Stored) -> Object:
        """The object at the record's resource version."""
        namespace, name, at = record.metadata.namespace, record.metadata.name, record.metadata.resource_version
        live = self._written.get((kind, f"{namespace}/{name}"))
        if live is None or resource_version_of(live) != at:
            live = self._kube.get(kind, namespace, name)
        if live is None:
            raise Conflict(f"{kind.kind} {namespace}/{name} was deleted since it was read", do="read it again")
        if resource_version_of(live) != at:
            now = resource_version_of(live)
            raise Conflict(f"{kind.kind} {namespace}/{name} is at resource version {now}, not {at}", do="read it again")
        return live

    def _remember(self, cls: type[T], thing: Object) -> T:
        place = (KINDS[cls], key_of(thing))
        self._written[place] = thing
        self._written.move_to_end(place)
        while len(self._written) > WRITTEN:
            self._written.popitem(last=False)
        return self._of(cls, thing)

    def _of(self, cls: type[T], thing: Object) -> T:
        """The record that an object is."""
        at = str(thing["metadata"]["uid"]), resource_version_of(thing)
        known = self._read.get(at)
        if isinstance(known, cls):
            return known
        made = self._read[at] = from_object(cls, thing)
        while len(self._read) > READ:
            self._read.popitem(last=False)
        return made


def _only_switches(before: Stored, after: Stored) -> bool:
    """Whether nothing else is to change."""
    if not isinstance(before, ModelRollout) or not isinstance(after, ModelRollout):
        return False
    as_before = replace(after.spec, **{name: getattr(before.spec, name) for name in SWITCHES})
    return (as_before, *_wish_of(after)[1:]) == _wish_of(before)


def _wish_of(record: Stored) -> tuple[Any, ...]:
    """What is written with the spec."""
    return record.spec, dict(record.metadata.labels), dict(record.metadata.annotations)


def _changed(live: Mapping[str, Any], before: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with what differs, and nothing else: what a person left out stays left out."""
    new = {name: value for name, value in wanted.items() if before.get(name) != value}
    return {name: value for name, value in live.items() if name in wanted or name not in before} | new


def _given(thing: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: thing.get(name, {}) for name in names}


def _is_leaving(thing: Object) -> bool:
    return "deletionTimestamp" in thing["metadata"]
