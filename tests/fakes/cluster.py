"""A Kubernetes API in memory: versions, generations, conflicts, status apart, owners of fields, watches in order.

It keeps what a test can get wrong about the real one, which passes the same contract (`tests/contract/test_kube.py`).
It runs no controllers but the garbage collector, sets no defaults and knows no schema.

Mass simulations need thousands of writes a second: objects are kept by kind, what they are made of is taken apart only
where it changed, and with `copies=False` callers get what is stored itself; `unspoilt` then says that none changed it.
"""

import json
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


_Parts = dict[str, tuple[Any, Leaves]]
"""By field at the top of an object: its value, and its leaves."""
_NO_PART: tuple[Any, Leaves] = (None, {})


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

    def __init__(
        self, *, clock: Callable[[], float] = lambda: 0.0, absent: tuple[Kind, ...] = (), copies: bool = True
    ) -> None:
        """`copies`: whether callers get copies, as from any server, or what is stored itself."""
        self.clock, self.copies = clock, copies
        self._copy: Callable[[Any], Any] = _copy if copies else lambda stored: stored
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
        self._sorted: dict[Kind, tuple[dict[str, Any], ...]] = {}
        """By kind, in order; absent: it changed."""
        self._changed_at: dict[Kind, int] = {}
        self._owners: dict[Place, Ownership] = {}
        self._parts: dict[Place, _Parts] = {}
        self._sealed: dict[Place, bytes] = {}
        self._revision = 0
        self._uids = 0
        self._events: list[_Event] = []
        self._oldest = 0
        self._changed = threading.Condition(threading.RLock())

    # the port

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        with self._call("get", kind, namespace, name):
            found = self._stored.get(self._place(kind, namespace, name))
            return None if found is None else self._copy(found)

    def list(self, kind: Kind, *, namespace: str = "", labels: Labels = None) -> Listing:
        with self._call("list", kind, namespace, ""):
            found = [
                self._copy(each)
                for each in self.peek(kind)
                if namespace in ("", namespace_of(each)) and matches(each, labels)
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
            live, fields = self._leaves(place, before), _leaves(_only(kind, subresource, wanted))
            owners = self._owners[place]
            if not force and (disputed := owners.disputed(owner, live, fields)):
                told = ", ".join(f"{_spelt(path)} ({other})" for path, other in disputed)
                raise Owned(f"another manager owns {told}", do="leave the field to it, or force")
            if fields.items() <= live.items() and owners.owned.get(owner) == fields.keys():
                return self._copy(before)
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
            self._owners[place].updated((manager, "Update", subresource), *self._differing(place, before, after))
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
        return tuple(_copy(each) for each in self.peek(kind))

    def peek(self, kind: Kind) -> tuple[Object, ...]:
        """The same, uncopied: to be looked at only."""
        if kind not in self._sorted:
            mine = [(place[1:], each) for place, each in self._stored.items() if place[0] == kind]
            self._sorted[kind] = tuple(each for _, each in sorted(mine, key=lambda item: item[0]))
        return self._sorted[kind]

    def changed_at(self, kind: Kind) -> int:
        """The revision of the last change of any object of a kind."""
        return self._changed_at.get(kind, 0)

    def unspoilt(self) -> None:
        """Nobody changed what was handed out to be looked at."""
        for place, each in self._stored.items():
            assert self.copies or marshal.loads(self._sealed[place]) == each, f"somebody changed {place}, unasked"

    def managers(self, kind: Kind, namespace: str, name: str) -> set[str]:
        """Who owns fields of an object."""
        return {manager for manager, _, _ in self._owners[(kind, namespace, name)].owned}

    def take(self, other: "FakeKube") -> None:
        """Become what another one is now, without its history."""
        self._stored = (
            dict(other._stored)
            if not (self.copies or other.copies)
            else {place: _copy(each) for place, each in other._stored.items()}
        )
        self._sealed = dict(other._sealed)
        self._sorted, self._parts, self._changed_at = {}, dict(other._parts), dict(other._changed_at)
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
        fields, owners = self._leaves(place, made), Ownership()
        if applied:
            owners.applied(owner, {}, fields)
        else:
            owners.updated(owner, {}, fields)
        self._owners[place] = owners
        stored = self._store(place, None, made)
        if made["metadata"].get("ownerReferences"):
            self._collect()
        return self._copy(stored)

    def _write(self, place: Place, before: dict[str, Any], after: dict[str, Any]) -> Object:
        if after == before:
            return self._copy(before)
        if place[0] not in UNCOUNTED and _without(after, "metadata", "status") != _without(
            before, "metadata", "status"
        ):
            after["metadata"]["generation"] = before["metadata"]["generation"] + 1
        if "deletionTimestamp" in before["metadata"] and not after["metadata"].get("finalizers"):
            self._stored[place] = after
            self._remove(place)
            return self._copy(after)
        return self._copy(self._store(place, before, after))

    def _store(self, place: Place, before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
        self._revision += 1
        self.writes += 1
        after["metadata"]["resourceVersion"] = str(self._revision)
        self._stored[place] = after
        self._touched(place)
        if not self.copies:
            self._sealed[place] = marshal.dumps(after)
        self._events.append(_Event(self._revision, place[0], before, after, after))
        self._changed.notify_all()
        return after

    def _touched(self, place: Place) -> None:
        self._sorted.pop(place[0], None)
        self._changed_at[place[0]] = self._revision

    def _leaves(self, place: Place, thing: dict[str, Any]) -> Leaves:
        """The fields of an object that somebody can own."""
        found: Leaves = {}
        for _, part in self._apart(place, thing).values():
            found |= part
        return found

    def _differing(self, place: Place, before: dict[str, Any], after: dict[str, Any]) -> tuple[Leaves, Leaves]:
        """The same before and after a write, of the parts that it changed."""
        old, new = self._apart(place, before), self._apart(place, after)
        live, now = Leaves(), Leaves()
        for name in old.keys() | new.keys():
            was, is_now = old.get(name, _NO_PART)[1], new.get(name, _NO_PART)[1]
            if was is not is_now:
                live |= was
                now |= is_now
        return live, now

    def _apart(self, place: Place, thing: dict[str, Any]) -> "_Parts":
        """An object, taken apart; what is as it was when it was asked for last is not taken apart again."""
        known = self._parts.get(place, {})
        self._parts[place] = {
            name: last if (last := known.get(name)) and last[0] == value else (value, leaves({name: value}))
            for name, value in _ownable(thing).items()
        }
        return self._parts[place]

    def _remove(self, place: Place) -> None:
        gone = self._stored.pop(place)
        del self._owners[place]
        self._parts.pop(place, None)
        self._sealed.pop(place, None)
        self._revision += 1
        self._touched(place)
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
                if change := _seen(each, kind, namespace, labels, self._copy):
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


def _seen(event: _Event, kind: Kind, namespace: str, labels: Labels, copy: Callable[[Any], Any]) -> Change | None:
    """What a watch with this selection sees of an event."""
    if event.kind != kind or namespace not in ("", namespace_of(event.last)):
        return None
    was = event.before is not None and matches(event.before, labels)
    is_now = event.after is not None and matches(event.after, labels)
    if is_now:
        return Change("MODIFIED" if was else "ADDED", copy(event.last))
    return Change("DELETED", copy(event.last)) if was else None


def _only(kind: Kind, subresource: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The part of an object that a write to `subresource` can change."""
    if subresource:
        return _given(wanted, "status")
    return wanted if kind in STATUSLESS else _without(wanted, "status")


def _leaves(thing: dict[str, Any]) -> Leaves:
    """The fields that somebody can own."""
    return leaves(_ownable(thing))


def _ownable(thing: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what nobody owns."""
    named = ("name", "namespace", *SYSTEM)
    metadata = {name: value for name, value in thing.get("metadata", {}).items() if name not in named}
    rest = _without(thing, "apiVersion", "kind", "metadata")
    return {**rest, "metadata": metadata} if metadata else rest


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


def _spelt(path: tuple[Any, ...]) -> str:
    return "".join(f".{step}" if isinstance(step, str) else str(dict(step.keys)) for step in path)


def _without(thing: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in thing.items() if name not in names}


def _given(thing: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: thing[name] for name in names if name in thing}


def _copy(value: Any) -> Any:
    """A fresh copy of what is stored, by far the quickest way."""
    return marshal.loads(marshal.dumps(value))


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it would come over the wire."""
    plain: dict[str, Any] = json.loads(json.dumps(value, default=dict))
    return plain
