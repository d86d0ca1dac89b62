"""What people are told of a rollout: Events, and lines of the log with one trace for each attempt.

Both follow from what is written into the records, so that they say what was observed, once for each transition.
"""

import hashlib
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import structlog

from modelyard.errors import Conflict, ModelyardError
from modelyard.kube.metadata import fit
from modelyard.kube.port import EVENT, MODEL_DEPLOYMENT, Kube
from modelyard.rollout.ports import Records
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.rollout import ModelRollout, Phase
from modelyard.verdict import Outcome
from modelyard_operator.index import Index
from modelyard_operator.lease import MANAGER, NotLeading

REPEAT_S = 600.0
"""The same Event is counted again at most this often."""
REMEMBERED = 4096
MESSAGE = 1024
"""Characters that an Event's message may have."""

log = structlog.get_logger()


class Note(NamedTuple):
    """Something to be told of a deployment."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def trace_of(rollout: ModelRollout) -> str:
    """One trace id for each attempt: the same after a restart, and for every replica."""
    named = f"{rollout.metadata.namespace}/{rollout.metadata.name}/{rollout.spec.digest}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def notes_on_rollout(before: ModelRollout | None, after: ModelRollout) -> tuple[Note, ...]:
    """What is new on an attempt: that it was made, what its timeline says, and its end."""
    name = after.metadata.name
    if before is None:
        return (Note("Normal", "RolloutCreated", f"{name}: version {after.spec.version} is to be rolled out"),)
    old = {each["event"] for each in before.status.timeline}
    told = [
        Note("Normal", str(each["event"]), f"{name}: {each['message']}")
        for each in after.status.timeline
        if each["event"] not in old and each["event"] not in (Phase.FAILED, Phase.SUCCESSFUL)
    ]
    verdict = after.status.verdict
    if before.status.phase is not after.status.phase and verdict is not None:
        ended = after.status.phase in (Phase.FAILED, Phase.SUCCESSFUL)
        good = verdict.outcome is Outcome.SUCCESSFUL
        if ended or not good:
            word = f"Rollout{after.status.phase}" if ended else str(verdict.reason)
            told.append(Note("Normal" if good else "Warning", word, f"{name}: {verdict.message}"))
    return tuple(told)


def notes_on_wish(before: ModelDeployment, after: ModelDeployment) -> tuple[Note, ...]:
    """Conditions that flipped to what somebody may want to do something about, and back."""
    was = {each.type: each for each in before.status.conditions}
    told = []
    for now in after.status.conditions:
        then = was.get(now.type)
        degraded = now.type == "Degraded" and now.status == "True" and (then is None or then.reason != now.reason)
        lost = now.type == "Ready" and then is not None and (then.status, now.status) == ("True", "False")
        if degraded or lost:
            told.append(Note("Warning", now.reason, now.message))
    return tuple(told)


class Told:
    """Records for one look: the wish is read once, and what changes is remembered to be told."""

    def __init__(self, records: Records, key: str, wish: ModelDeployment | None) -> None:
        self._records, self._key, self._wish = records, key, wish
        self._known: dict[str, ModelRollout] = {}
        self.notes: list[Note] = []

    def keys(self) -> tuple[str, ...]:
        """All deployments."""
        return self._records.keys()

    def deployment(self, key: str) -> ModelDeployment | None:
        """The wish, as it was read for this look; another one is read now."""
        return self._wish if key == self._key else self._records.deployment(key)

    def rollouts(self, key: str) -> tuple[ModelRollout, ...]:
        """Its attempts; the newest gives the log's lines their trace."""
        found = self._records.rollouts(key)
        self._known = {each.metadata.name: each for each in found}
        if found:
            _trace(found[-1])
        return found

    def write(self, record: ModelDeployment | ModelRollout) -> ModelDeployment | ModelRollout:
        """Store it, and remember what is new."""
        written = self._records.write(record)
        if isinstance(record, ModelRollout) and isinstance(written, ModelRollout):
            before = self._known.get(record.metadata.name)
            if before is None:
                _trace(written)
            self.notes += notes_on_rollout(before, written)
            self._known[record.metadata.name] = written
        elif isinstance(written, ModelDeployment) and self._wish is not None:
            self.notes += notes_on_wish(self._wish, written)
            self._wish = written
        return written

    def delete(self, record: ModelDeployment | ModelRollout) -> None:
        """Remove it."""
        self._records.delete(record)


def _trace(rollout: ModelRollout) -> None:
    structlog.contextvars.bind_contextvars(
        rollout=rollout.metadata.name,
        version=rollout.spec.version,
        digest=rollout.spec.digest,
        trace=trace_of(rollout),
    )


class Events:
    """Kubernetes Events on a ModelDeployment. One object for each thing said, counted when it is said again."""

    def __init__(self, kube: Kube, index: Index, *, me: str) -> None:
        self._kube, self._index, self._me = kube, index, me
        self._said: OrderedDict[str, float] = OrderedDict()

    def tell(self, key: str, notes: list[Note], *, now: float) -> None:
        """Log the notes and make Events of them. An Event that cannot be made holds up nothing."""
        entry = self._index.entry(MODEL_DEPLOYMENT, key)
        for note in notes:
            log.info(note.message, event_type=note.type, reason=note.reason)
            if entry is None:
                continue
            try:
                self._event(key, entry.uid, note, now)
            except NotLeading:
                return
            except ModelyardError as error:
                log.info("an Event could not be made", error=str(error))

    def _event(self, key: str, uid: str, note: Note, now: float) -> None:
        namespace, _, name = key.partition("/")
        said = hashlib.sha256("\n".join((uid, *note)).encode()).hexdigest()[:16]
        event = f"{fit(name, limit=200)}.{said}"
        if now - self._said.get(said, float("-inf")) < REPEAT_S:
            return
        self._said[said] = now
        self._said.move_to_end(said)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        thing: dict[str, Any] = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": event, "namespace": namespace},
            "involvedObject": {
                "apiVersion": MODEL_DEPLOYMENT.api_version,
                "kind": MODEL_DEPLOYMENT.kind,
                "namespace": namespace,
                "name": name,
                "uid": uid,
            },
            "type": note.type,
            "reason": note.reason,
            "message": note.message[:MESSAGE],
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": MANAGER},
            "reportingComponent": "modelyard.dev/operator",
            "reportingInstance": self._me,
        }
        try:
            self._kube.create(thing, manager=MANAGER)
        except Conflict:
            before = self._kube.get(EVENT, namespace, event)
            if before is not None:
                again = {**before, "lastTimestamp": at, "count": int(before.get("count") or 1) + 1}
                self._kube.replace(again, manager=MANAGER)
