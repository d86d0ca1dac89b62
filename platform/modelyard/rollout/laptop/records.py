"""Wishes and attempts as files: what the cluster keeps in its API server, with the same optimistic concurrency.

The loop, the command and a person's editor may all write. So every write names the resource version
that it was based on, and goes through one lock; a reader needs none, since files are replaced whole.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from modelyard.errors import BadInput, Busy, Conflict
from modelyard.rollout.laptop.home import file_name, split_key
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.rollout import ModelRollout
from modelyard.storage.atomic import explained, write_text

Stored = ModelDeployment | ModelRollout
T = TypeVar("T", bound=Stored)

_LOCK_S = 10.0


class FileRecords:
    """`Records` below one folder: `<namespace>/<kind>/<name>.json`.

    Resource versions are whole numbers from one counter for the whole folder: a record that was
    deleted and made anew never gets a version that it had before.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keys(self) -> tuple[str, ...]:
        """All deployments, as `namespace/name`, sorted."""
        files = self._folder.glob(f"*/{ModelDeployment.__name__}/*.json")
        return tuple(sorted(f"{file.parent.parent.name}/{file.stem}" for file in files if file.name[0] != "."))

    def deployment(self, key: str) -> ModelDeployment | None:
        """The wish, or None when there is none.

        Raises:
            BadInput: its file is damaged; the message names it.
        """
        namespace, name = split_key(key)
        return _read(ModelDeployment, self._path(ModelDeployment, namespace, name))

    def rollouts(self, key: str) -> tuple[ModelRollout, ...]:
        """Its attempts, oldest first: by the number in their names.

        Raises:
            BadInput: a file is damaged; the message names it.
        """
        namespace, name = split_key(key)
        files = (self._folder / namespace / ModelRollout.__name__).glob("*.json")
        found = [_read(ModelRollout, file) for file in files if file.name[0] != "."]
        mine = [rollout for rollout in found if rollout is not None and rollout.spec.deployment == name]
        return tuple(sorted(mine, key=lambda rollout: (len(rollout.metadata.name), rollout.metadata.name)))

    def write(self, record: Stored) -> Stored:
        """Store `record`; give it back with its new resource version, and generation if `spec` changed.

        What is already so is not written. Metadata that is not ours to count (labels, annotations) goes with either.

        Raises:
            Conflict: it is not at that resource version any more (empty: it exists already).
            BadInput: it changes spec and status at once, or is new and has a status; its name cannot be a file's name,
                or the folder cannot be written to.
        """
        path = self._path(type(record), record.metadata.namespace, record.metadata.name)
        with self._locked():
            before: Stored | None = _read(type(record), path)
            _refuse_stale(record, before)
            generation = _generation(record, before)
            same = replace(record, metadata=replace(record.metadata, generation=generation))
            if same == before:
                return same
            metadata = replace(record.metadata, resource_version=self._next_version(), generation=generation)
            stored = replace(record, metadata=metadata)
            write_text(path, to_json(stored))
        return stored

    def delete(self, record: Stored) -> None:
        """Remove it; nothing when it is gone."""
        with self._locked():
            self._path(type(record), record.metadata.namespace, record.metadata.name).unlink(missing_ok=True)

    def _path(self, kind: type, namespace: str, name: str) -> Path:
        namespace = file_name(namespace, what="namespace")
        return self._folder / namespace / kind.__name__ / f"{file_name(name, what='name')}.json"

    def _next_version(self) -> str:
        counter = self._folder / ".version"
        version = str(int(counter.read_text()) + 1 if counter.exists() else 1)
        write_text(counter, version)
        return version

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / ".lock").open("w")
        with file:
            deadline = time.monotonic() + _LOCK_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Busy(
                            f"the records in {self._folder} have been locked for {_LOCK_S:g} s",
                            do="end the process that holds .lock there (see `fuser`) and try again",
                        ) from None
                    time.sleep(0.005)
            yield


def _read(kind: type[T], path: Path) -> T | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    return from_json(kind, text, where=str(path))


def _refuse_stale(record: Stored, before: Stored | None) -> None:
    named = f"{record.kind} {record.metadata.namespace}/{record.metadata.name}"
    based_on, now = record.metadata.resource_version, before.metadata.resource_version if before else ""
    if based_on == now:
        return
    if not based_on:
        raise Conflict(f"{named} exists already, at resource version {now}", do="read it and change that")
    if not now:
        raise Conflict(f"{named} was deleted since it was read at {based_on}", do="read it again")
    raise Conflict(f"{named} is at resource version {now}, not {based_on}", do="read it again and repeat the change")


def _generation(record: Stored, before: Stored | None) -> int:
    """The generation after this write, which a Kubernetes API could do too: spec and status are written apart."""
    named = f"{record.kind} {record.metadata.namespace}/{record.metadata.name}"
    if before is None:
        if record.status != type(record.status)():
            raise BadInput(f"{named} is new and has a status", do="write it without, then write its status")
        return 1
    spec, status = before.spec != record.spec, before.status != record.status
    if spec and status:
        raise BadInput(f"{named} changes spec and status in one write", do="write the one, then the other")
    return before.metadata.generation + spec
