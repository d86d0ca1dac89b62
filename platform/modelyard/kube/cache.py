"""Reads that cost no request: what a watch tells is kept, and `get` and `list` are answered from it.

Like client-go's informers, with three rules by which nobody need know that there is a cache:

- **Nothing older than what was written here.** What the API answers to a write is kept at once. Where a write came to
  nothing that is known (a conflict, a lost answer, a delete), that object is in doubt: the API is asked for it.
- **Nothing from a watch that may be dead.** A kind is answered from here only between a list and the end of the watch
  that follows it, while that watch (or its bookmarks, every minute) is heard. Else the API is asked.
- **Nothing from before this replica led.** `renew` makes every read a request until a list that began later is in:
  parts of what the last leader wrote may have arrived, and others not.

What is kept came in the order of the API's resource versions, which are whole numbers that grow with every write (by
contract since Kubernetes 1.35: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions).
"""

import itertools
import marshal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, cast

from modelyard.errors import ModelyardError, Owned, Refused
from modelyard.kube.metadata import DEPLOYMENT_LABEL, has, labels_of, matches, namespace_of, resource_version_of
from modelyard.kube.port import POD, Change, Kind, Kube, Labels, Listing, Object, Subresource, kind_of

SILENCE_S: Final = 150.0
"""A watch that is silent for longer is not believed: an API server sends a bookmark every minute."""

Name = tuple[str, str]
"""Namespace and name."""


class _Kept(NamedTuple):
    version: int
    labels: Mapping[str, str]
    data: bytes
    """The object; as bytes it takes a fifth of the memory."""

    def copy(self) -> Object:
        """The object, for the reader alone."""
        return cast("Object", marshal.loads(self.data))  # noqa: S302  these are our own bytes


class Store:
    """What is known of one kind. Safe to use from many threads.

    Args:
        kind: the kind.
        namespace: the one that is watched; empty: all.
        labels: of the objects that the watch selects; None: all.
        clock: any monotonic clock.
    """

    def __init__(
        self, kind: Kind, *, namespace: str = "", labels: Labels = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.kind, self.namespace, self.labels, self._clock = kind, namespace, labels, clock
        self._lock = threading.RLock()
        self._kept: dict[Name, _Kept] = {}
        self._of: dict[tuple[str, str], set[str]] = defaultdict(set)
        """Names by namespace and deployment label."""
        self._floor = 0
        """All that happened up to this resource version is known."""
        self._doubts: dict[Name, int] = {}
        """What has to be asked for; each doubt has a number of its own."""
        self._numbers = itertools.count(1)
        self._turn, self._listed = 1, 0
        """A list of this turn makes it known."""
        self._heard: float | None = None
        """When the watch was last heard; None: nobody watches."""

    # what feeds it

    def distrust(self) -> int:
        """Believe nothing until a list that began after this; gives what `listed` is to be told with it."""
        with self._lock:
            self._turn += 1
            return self._turn

    @property
    def turn(self) -> int:
        """What `listed` is to be told with a list that begins now."""
        return self._turn

    def listed(self, found: Listing, turn: int) -> None:
        """Take a whole list."""
        version = int(found.resource_version)
        with self._lock:
            self._listed = max(self._listed, turn)
            if version < self._floor:
                return
            there = {_place(each) for each in found.items}
            gone = [place for place, kept in self._kept.items() if kept.version <= version and place not in there]
            for place in gone:
                self._drop(place)
                self._doubts.pop(place, None)
            for each in found.items:
                self._put(each)
            self._floor = version

    def watched(self) -> None:
        """A watch follows from the last list on."""
        self._heard = self._clock()

    def lost(self) -> None:
        """Nobody watches any more."""
        self._heard = None

    def told(self, change: Change) -> None:
        """Take the next event of the watch."""
        version, place = int(resource_version_of(change.object)), _place(change.object)
        with self._lock:
            self._heard = self._clock()
            if version <= self._floor:
                return
            self._floor = version
            if change.type == "DELETED":
                kept = self._kept.get(place)
                if kept is None or kept.version <= version:
                    self._drop(place)
                    self._doubts.pop(place, None)
            elif change.type != "BOOKMARK":
                self._put(change.object)

    def learnt(self, thing: Object, *, settles: int = 0) -> None:
        """Take an object that was heard of elsewhere, if it is news; `settles`: number of a doubt that this ends."""
        with self._lock:
            self._settle(_place(thing), settles)
            if int(resource_version_of(thing)) > self._floor:
                self._put(thing)

    def absent(self, place: Name, *, settles: int) -> None:
        """The API says that there is none. Where one is kept it stays in doubt, until the watch says so too."""
        with self._lock:
            if place not in self._kept:
                self._settle(place, settles)

    def doubt(self, place: Name) -> None:
        """Something happened to this object that is not known."""
        with self._lock:
            self._doubts[place] = next(self._numbers)

    def doubted(self, place: Name) -> int:
        """The number of the doubt about this object; 0: none."""
        return self._doubts.get(place, 0)

    # what it answers

    @property
    def known(self) -> bool:
        """Whether there was a list since the last `distrust`."""
        return self._listed == self._turn

    @property
    def believed(self) -> bool:
        """Whether it can be asked."""
        heard = self._heard
        return self.known and heard is not None and self._clock() - heard < SILENCE_S

    def get(self, place: Name) -> Object | None:
        """The object; None: ask the API."""
        with self._lock:
            kept = self._kept.get(place)
            known = kept is not None and self.believed and place not in self._doubts
        return kept.copy() if kept is not None and known else None

    def list(self, namespace: str, labels: Labels) -> tuple[Listing, tuple[Name, ...]] | None:
        """What is known for sure, and the names that the API has to be asked about; None: ask for all."""
        wanted = labels or {}
        outside = self.namespace not in ("", namespace)
        more = any(
            name not in wanted or value not in (None, wanted[name]) for name, value in (self.labels or {}).items()
        )
        with self._lock:
            if outside or more or not self.believed:
                return None
            found = {
                place: kept
                for place, kept in self._candidates(namespace, wanted.get(DEPLOYMENT_LABEL))
                if has(kept.labels, wanted)
            }
            here = (place for place in self._doubts if namespace in ("", place[0]))
            doubted = tuple(sorted(place for place in here if place in found or place not in self._kept))
            version = str(self._floor)
        sure = sorted(found.keys() - set(doubted))
        return Listing(tuple(found[place].copy() for place in sure), version), doubted

    def __len__(self) -> int:
        return len(self._kept)

    # inside

    def _candidates(self, namespace: str, deployment: str | None) -> Iterable[tuple[Name, _Kept]]:
        if namespace and deployment is not None:
            return [
                ((namespace, name), self._kept[namespace, name]) for name in self._of.get((namespace, deployment), ())
            ]
        return [(place, kept) for place, kept in self._kept.items() if namespace in ("", place[0])]

    def _put(self, thing: Object) -> None:
        place, version, labels = _place(thing), int(resource_version_of(thing)), labels_of(thing)
        before = self._kept.get(place)
        if before is not None and before.version >= version:
            return
        self._drop(place)
        slim = {name: value for name, value in thing.items() if name != "spec"} if self.kind == POD else dict(thing)
        self._kept[place] = _Kept(version, dict(labels), marshal.dumps(slim))
        self._of[place[0], labels.get(DEPLOYMENT_LABEL, "")].add(place[1])

    def _drop(self, place: Name) -> None:
        kept = self._kept.pop(place, None)
        if kept is None:
            return
        mine = (place[0], kept.labels.get(DEPLOYMENT_LABEL, ""))
        self._of[mine].discard(place[1])
        if not self._of[mine]:
            del self._of[mine]

    def _settle(self, place: Name, number: int) -> None:
        if number and self._doubts.get(place) == number:
            del self._doubts[place]


class Cached:
    """The `Kube` port: reads of the kinds that have a store are answered from it where it is sure."""

    def __init__(self, kube: Kube, stores: Iterable[Store]) -> None:
        self._kube = kube
        self.stores: Mapping[Kind, Store] = {each.kind: each for each in stores}
        self.watch = kube.watch

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """See the port."""
        store = self.stores.get(kind)
        found = None if store is None else store.get((namespace, name))
        return self._asked(kind, (namespace, name)) if found is None else found

    def list(self, kind: Kind, *, namespace: str = "", labels: Labels = None) -> Listing:
        """See the port."""
        store = self.stores.get(kind)
        known = None if store is None else store.list(namespace, labels)
        if known is None:
            return self._kube.list(kind, namespace=namespace, labels=labels)
        listing, doubted = known
        asked = [self._asked(kind, place) for place in doubted]
        fresh = [each for each in asked if each is not None and matches(each, labels)]
        return Listing(tuple(sorted((*listing.items, *fresh), key=_place)), listing.resource_version)

    def create(self, thing: Object, *, manager: str) -> Object:
        """See the port."""
        return self._written(thing, lambda: self._kube.create(thing, manager=manager))

    def apply(self, thing: Object, *, manager: str, force: bool = False, subresource: Subresource = "") -> Object:
        """See the port."""
        kube = self._kube
        return self._written(thing, lambda: kube.apply(thing, manager=manager, force=force, subresource=subresource))

    def replace(self, thing: Object, *, manager: str, subresource: Subresource = "") -> Object:
        """See the port."""
        return self._written(thing, lambda: self._kube.replace(thing, manager=manager, subresource=subresource))

    def delete(
        self, kind: Kind, namespace: str, name: str, *, resource_version: str | None = None, uid: str | None = None
    ) -> None:
        """See the port."""
        try:
            self._kube.delete(kind, namespace, name, resource_version=resource_version, uid=uid)
        finally:
            if (store := self.stores.get(kind)) is not None:
                store.doubt((namespace, name))

    def renew(self) -> None:
        """Believe nothing that is kept, and read all of it once: what is believed then is from after this began.

        A kind that cannot be listed is asked for at each read, until its watch begins anew.
        """
        turns = {kind: store.distrust() for kind, store in self.stores.items()}
        for kind, store in self.stores.items():
            with suppress(ModelyardError):
                found = self._kube.list(kind, namespace=store.namespace, labels=store.labels)
                store.listed(found, turns[kind])

    def _asked(self, kind: Kind, place: Name) -> Object | None:
        store = self.stores.get(kind)
        number = 0 if store is None else store.doubted(place)
        found = self._kube.get(kind, *place)
        if store is not None and found is None:
            store.absent(place, settles=number)
        elif store is not None and found is not None and matches(found, store.labels):
            store.learnt(found, settles=number)
        return found

    def _written(self, thing: Object, write: Callable[[], Object]) -> Object:
        store, place = self.stores.get(kind_of(thing)), _place(thing)
        number = 0 if store is None else store.doubted(place)
        try:
            answer = write()
        except (Refused, Owned):
            raise  # nothing was written
        except BaseException:
            if store is not None:
                store.doubt(place)
            raise
        if store is not None and "deletionTimestamp" in answer["metadata"]:
            store.doubt(place)  # perhaps it was gone with the last of its finalizers
        elif store is not None and matches(answer, store.labels):
            store.learnt(answer, settles=number)
        return answer


def _place(thing: Object) -> Name:
    return namespace_of(thing), str(thing["metadata"].get("name", ""))
