"""A Kubernetes API in memory: versions, generations, conflicts, status apart, owners of fields, watches in order.

It keeps what a test can get wrong about the real one, which passes the same contract (`tests/contract/test_kube.py`).
It runs no controllers but the garbage collector, sets no defaults and knows no schema.
"""

import marshal
import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from tests.fakes.ownership import Leaves, Owner, Ownership, leaves, whole

from modelyard.errors import Conflict, Expired, NotInstalled, Owned, Refused
from modelyard.kube import port
from modelyard.kube.metadata import matches, namespace_of
from modelyard.kube.port import Change, Kind, Labels, Listing, Object, Subresource, kind_of

PLAIN = frozenset(
    {port.CONFIG_MAP, port.SECRET, port.EVENT, port.LEASE, port.CONTROLLER_REVISION, port.SERVICE_ACCOUNT}
)
"""Kinds without status and without generation."""
UNCOUNTED = PLAIN | {port.SERVICE, port.NODE, port.NAMESPACE}
"""Kinds without generation."""
STATUSLESS = PLAIN | {port.ENDPOINT_SLICE, port.NETWORK_POLICY}
SYSTEM = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields")
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

Place = tuple[Kind, str, str]


@dataclass(frozen=True)
class Call:
    """One call of the API, as a hook sees it."""

    number: int
    """From 1."""
    verb: str
    kind: Kind
    namespace: str
    name: str
    subresource: str = ""

    @property
    def writes(self) -> bool:
        return self.verb in ("create", "apply", "replace", "delete")


@dataclass(frozen=True)
class _Event:
    revision: int
    kind: Kind
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    last: dict[str, Any]
    """The object at this revision, also when it was deleted."""


class FakeKube:
    """The `Kube` port."""

    def __init__(self, *, clock: Callable[[], float] = lambda: 0.0, absent: tuple[Kind, ...] = ()) -> None:
        self.clock = clock
        self.absent = set(absent)
        """Kinds whose CRD is not installed."""
        self.before: Callable[[Call], None] = lambda _call: None
        """Sees each call before it does anything; what it raises is raised to the caller: the request was lost."""
        self.after: Callable[[Call], None] = lambda _call: None
        """Sees each call when it is done; what it raises is raised to the caller: the answer was lost."""
        self.calls: list[Call] = []
        self.writes = 0
        """Writes that changed something."""
        self.garbage_collector = True
        self._stored: dict[Place, dict[str, Any]] = {}
        self._owners: dict[Place, Ownership] = {}
        self._revision = 0
        self._uids = 0
        self._events: list[_Event] = []
        self._oldest = 0
        self._changed = threading.Condition(threading.RLock())

    # the port

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        with self._call("get", kind, namespace, name):
            found = self._stored.get(self._place(kind, namespace, name))
            return None if found is None else _copy(found)

    def list(self, kind: Kind, *, namespace: str = "", labels: Labels = None) -> Listing:
        with self._call("list", kind, namespace, ""):
            found = [
                _copy(each)
                for (of, within, _), each in sorted(self._stored.items(), key=lambda item: item[0][1:])
                if of == kind and namespace in ("", within) and matches(each, labels)
            ]
            return Listing(tuple(found), str(self._revision))

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        deadline_s: float,
        namespace: str = "",
        labels: Labels = None,
    ) -> Iterator[Change]:
        with self._call("watch", kind, namespace, ""):
            revision = int(resource_version)
            if revision < self._oldest:
                raise Expired(f"resource version {revision} is too old", do="list again")
        return self._watched(kind, namespace, labels or {}, revision, monotonic() + deadline_s)

    def create(self, thing: Object, *, manager: str) -> Object:
        kind, wanted = kind_of(thing), _plain(thing)
        place = self._place(kind, namespace_of(thing), wanted["metadata"]["name"])
        with self._call("create", *place):
            if place in self._stored:
                raise Conflict(f'{kind.plural} "{place[2]}" already exists', do="read it and change it")
            return self._make(place, wanted, owner=(manager, "Update", ""), applied=False)

    def apply(self, thing: Object, *, manager: str, force: bool = False, subresource: Subresource = "") -> Object:
        kind, wanted = kind_of(thing), _plain(thing)
        place = self._place(kind, namespace_of(thing), wanted["metadata"]["name"])
        with self._call("apply", *place, subresource):
            before, owner = self._stored.get(place), (manager, "Apply", subresource)
            self._is_at(before, wanted["metadata"], place)
            if before is None:
                if subresource:
                    raise Conflict(f'{kind.plural} "{place[2]}" is gone', do="look again")
                return self._make(place, wanted, owner=owner, applied=True)
            live, fields = _leaves(before), _leaves(_only(kind, subresource, wanted))
            owners = self._owners[place]
            if not force and (disputed := owners.disputed(owner, live, fields)):
                told = ", ".join(f"{_spelt(path)} ({other})" for path, other in disputed)
                raise Owned(f"another manager owns {told}", do="leave the field to it, or force")
            draft = Ownership()
            draft.owned = {each: set(paths) for each, paths in owners.owned.items()}
            after = whole(draft.applied(owner, live, fields))
            self._owners[place] = draft
            return self._write(place, before, _with_system(after, before))

    def replace(self, thing: Object, *, manager: str, subresource: Subresource = "") -> Object:
        kind, wanted = kind_of(thing), _plain(thing)
        place = self._place(kind, namespace_of(thing), wanted["metadata"]["name"])
        with self._call("replace", *place, subresource):
            before = self._stored.get(place)
            if before is None:
                raise Conflict(f'{kind.plural} "{place[2]}" is gone', do="look again")
            self._is_at(before, wanted["metadata"], place)
            if subresource:
                after = {**before, **_given(wanted, "status")}
                if "status" not in wanted:
                    after.pop("status", None)
            else:
                after = wanted if kind in STATUSLESS else {**_without(wanted, "status"), **_given(before, "status")}
            _check(after)
            self._owners[place].updated((manager, "Update", subresource), _leaves(before), _leaves(after))
            return self._write(place, before, _with_system(after, before))

    def delete(
        self, kind: Kind, namespace: str, name: str, *, resource_version: str | None = None, uid: str | None = None
    ) -> None:
        place = self._place(kind, namespace, name)
        with self._call("delete", *place):
            before = self._stored.get(place)
            if before is None:
                return
            wanted = {"resourceVersion": resource_version or "", "uid": uid or ""}
            self._is_at(before, wanted, place)
            if not before["metadata"].get("finalizers"):
                self._remove(place)
            elif "deletionTimestamp" not in before["metadata"]:
                marked = {**before["metadata"], "deletionTimestamp": self._time()}
                self._write(place, before, {**before, "metadata": marked})

    # what tests ask and do

    def all(self, kind: Kind) -> tuple[Object, ...]:
        """Every object of a kind, unseen by the hooks."""
        return tuple(_copy(each) for place, each in sorted(self._stored.items(), key=_by_name) if place[0] == kind)

    def peek(self, kind: Kind) -> tuple[Object, ...]:
        """The same, uncopied: to be looked at only."""
        return tuple(each for place, each in sorted(self._stored.items(), key=_by_name) if place[0] == kind)

    def managers(self, kind: Kind, namespace: str, name: str) -> set[str]:
        """Who owns fields of an object."""
        return {manager for manager, _, _ in self._owners[(kind, namespace, name)].owned}

    def take(self, other: "FakeKube") -> None:
        """Become what another one is now, without its history."""
        self._stored = {place: _copy(each) for place, each in other._stored.items()}
        self._owners = {}
        for place, owners in other._owners.items():
            self._owners[place] = Ownership()
            self._owners[place].owned = {each: set(paths) for each, paths in owners.owned.items()}
        self._revision = self._oldest = other._revision
        self._uids, self.absent = other._uids, set(other.absent)
        self._events.clear()

    def compact(self) -> None:
        """Forget the history: a watch from before now is expired."""
        with self._changed:
            self._oldest = self._revision
            self._events.clear()

    @property
    def revision(self) -> int:
        """Grows with every write that changes something."""
        return self._revision

    # inside

    def _call(self, verb: str, kind: Kind, namespace: str, name: str, subresource: str = "") -> "_Calling":
        call = Call(len(self.calls) + 1, verb, kind, namespace, name, subresource)
        self.calls.append(call)
        self.before(call)
        if kind in self.absent:
            raise NotInstalled(f"the cluster has no {kind.kind} ({kind.api_version})", do="install its CRD")
        return _Calling(self, call)

    def _place(self, kind: Kind, namespace: str, name: str) -> Place:
        if kind.namespaced and not namespace:
            raise Refused(f"{kind.kind} {name} is in no namespace", do="give it one")
        return kind, namespace if kind.namespaced else "", name

    @staticmethod
    def _is_at(before: Mapping[str, Any] | None, wanted: Mapping[str, Any], place: Place) -> None:
        for field in ("resourceVersion", "uid"):
            found = before["metadata"][field] if before else ""
            if wanted.get(field) and wanted[field] != found:
                raise Conflict(f'{place[0].plural} "{place[2]}" is at {field} {found or "none"}, not {wanted[field]}',
                               do="look again")  # fmt: skip

    def _make(self, place: Place, wanted: dict[str, Any], *, owner: Owner, applied: bool) -> Object:
        kind = place[0]
        if kind not in STATUSLESS:
            wanted.pop("status", None)
        _check(wanted)
        self._uids += 1
        metadata = {name: value for name, value in wanted["metadata"].items() if name not in SYSTEM}
        metadata |= {"uid": f"uid-{self._uids:06d}", "creationTimestamp": self._time()}
        if kind not in UNCOUNTED:
            metadata["generation"] = 1
        made = {**wanted, "metadata": metadata}
        fields, owners = _leaves(wanted), Ownership()
        if applied:
            owners.applied(owner, {}, fields)
        else:
            owners.updated(owner, {}, fields)
        self._owners[place] = owners
        stored = self._store(place, None, made)
        self._collect()
        return _copy(stored)

    def _write(self, place: Place, before: dict[str, Any], after: dict[str, Any]) -> Object:
        if after == before:
            return _copy(before)
        if place[0] not in UNCOUNTED and _without(after, "metadata", "status") != _without(
            before, "metadata", "status"
        ):
            after["metadata"]["generation"] = before["metadata"]["generation"] + 1
        if "deletionTimestamp" in before["metadata"] and not after["metadata"].get("finalizers"):
            self._stored[place] = after
            self._remove(place)
            return _copy(after)
        return _copy(self._store(place, before, after))

    def _store(self, place: Place, before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
        self._revision += 1
        self.writes += 1
        after["metadata"]["resourceVersion"] = str(self._revision)
        self._stored[place] = after
        self._events.append(_Event(self._revision, place[0], before, after, after))
        self._changed.notify_all()
        return after

    def _remove(self, place: Place) -> None:
        gone = self._stored.pop(place)
        del self._owners[place]
        self._revision += 1
        self.writes += 1
        last = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self._revision)}}
        self._events.append(_Event(self._revision, place[0], gone, None, last))
        self._changed.notify_all()
        self._collect()

    def _collect(self) -> None:
        """Delete what has owners of which none is left."""
        if not self.garbage_collector:
            return
        alive = {each["metadata"]["uid"] for each in self._stored.values()}
        for place, each in list(self._stored.items()):
            owners = each["metadata"].get("ownerReferences") or ()
            if owners and not any(owner["uid"] in alive for owner in owners) and place in self._stored:
                self._remove(place)

    def _watched(self, kind: Kind, namespace: str, labels: Labels, revision: int, deadline: float) -> Iterator[Change]:
        while True:
            with self._changed:
                while not (new := self._since(revision)) and (left := deadline - monotonic()) > 0:
                    self._changed.wait(left)
                now = self._revision
            for each in new:
                if change := _seen(each, kind, namespace, labels):
                    yield change
            revision = max(revision, now)
            if not new:
                mark = {
                    "apiVersion": kind.api_version,
                    "kind": kind.kind,
                    "metadata": {"resourceVersion": str(revision)},
                }
                yield Change("BOOKMARK", mark)
                return

    def _since(self, revision: int) -> Sequence[_Event]:
        return self._events[bisect_right(self._events, revision, key=lambda each: each.revision) :]

    def _time(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Calling:
    """Holds the lock during one call, and calls the hook after it."""

    def __init__(self, fake: FakeKube, call: Call) -> None:
        self.fake, self.call = fake, call

    def __enter__(self) -> None:
        self.fake._changed.acquire()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.fake._changed.release()
        if kind is None:
            self.fake.after(self.call)


def _seen(event: _Event, kind: Kind, namespace: str, labels: Labels) -> Change | None:
    """What a watch with this selection sees of an event."""
    if event.kind != kind or namespace not in ("", namespace_of(event.last)):
        return None
    was = event.before is not None and matches(event.before, labels)
    is_now = event.after is not None and matches(event.after, labels)
    if is_now:
        return Change("MODIFIED" if was else "ADDED", _copy(event.last))
    return Change("DELETED", _copy(event.last)) if was else None


def _only(kind: Kind, subresource: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The part of an object that a write to `subresource` can change."""
    if subresource:
        return _given(wanted, "status")
    return wanted if kind in STATUSLESS else _without(wanted, "status")


def _leaves(thing: Mapping[str, Any]) -> Leaves:
    """The fields that somebody can own."""
    named = ("name", "namespace", *SYSTEM)
    metadata = {name: value for name, value in thing.get("metadata", {}).items() if name not in named}
    rest = _without(thing, "apiVersion", "kind", "metadata")
    return dict(leaves({**rest, "metadata": metadata} if metadata else rest))


def _with_system(after: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What nobody can change stays as it was."""
    kept = {name: before["metadata"][name] for name in ("name", "namespace", *SYSTEM) if name in before["metadata"]}
    own = {name: value for name, value in (after.get("metadata") or {}).items() if name not in SYSTEM}
    return {**after, "apiVersion": before["apiVersion"], "kind": before["kind"], "metadata": own | kept}


def _check(thing: Mapping[str, Any]) -> None:
    metadata = thing["metadata"]
    if not NAME.fullmatch(metadata["name"]):
        raise Refused(
            f"metadata.name: Invalid value: {metadata['name']!r}", do="give lower case letters, digits, - and ."
        )
    for name, value in (metadata.get("labels") or {}).items():
        if not LABEL.fullmatch(value):
            raise Refused(
                f"metadata.labels: Invalid value of {name}: {value!r}", do="give at most 63 letters and digits"
            )


def _wish(thing: Mapping[str, Any]) -> dict[str, Any]:
    """What counts for the generation."""
    return _without(thing, "metadata", "status")


def _spelt(path: tuple[Any, ...]) -> str:
    return "".join(f".{step}" if isinstance(step, str) else str(dict(step.keys)) for step in path)


def _without(thing: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in thing.items() if name not in names}


def _given(thing: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: thing[name] for name in names if name in thing}


def _by_name(item: tuple[Place, dict[str, Any]]) -> tuple[str, str]:
    return item[0][1:]


def _copy(value: Any) -> Any:
    """A fresh copy of what is stored, by far the quickest way."""
    return marshal.loads(marshal.dumps(value))


def _plain(value: Any) -> Any:
    """As it would come over the wire."""
    if isinstance(value, Mapping):
        return {name: _plain(below) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    return value
