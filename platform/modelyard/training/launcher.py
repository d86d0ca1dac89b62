"""A training on a cluster: submitted, watched, told, and brought home. The same result as `train` on a laptop.

The job's name follows from what is trained, so a launcher that was killed finds its job when it is started again, and
two of them watch one job. What it needs to know stands in the cluster and in the artifact store, nothing in between.
"""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from modelyard import errors
from modelyard.errors import ModelyardError, StageFailed, Unavailable
from modelyard.kube.metadata import name_of
from modelyard.kube.port import POD, Cluster, Object
from modelyard.spec.codec import to_json
from modelyard.storage.atomic import explained, write_text
from modelyard.storage.port import Store, open_store
from modelyard.training import shipping
from modelyard.training.apis import Api
from modelyard.training.curves import Curves
from modelyard.training.diagnosis import Cause, Finding, Seen, diagnose
from modelyard.training.failures import Fate
from modelyard.training.files import JOB, PROGRESS
from modelyard.training.follow import Following, Line
from modelyard.training.job import ClusterJob, Tracking, TrainedModel, TrainJob
from modelyard.training.logbook import FOLDER, Logbook
from modelyard.training.node import MARK
from modelyard.training.one_job import TheJob
from modelyard.training.pods import PodWatch
from modelyard.training.progress import Follower
from modelyard.training.state import JobState, Phase
from modelyard.training.submit import Launch, describe
from modelyard.training.telling import Telling
from modelyard.training.train import Progress, finished, kept, write_trained

LOOK_S = 0.5
"""Between two looks at the job and its pods."""
KEEP_EVERY_S = 60.0
"""Between two copies of growing logs to the store."""
BEGIN_S = 120.0
"""How long an image may fail to be pulled, or a container to be made, until that is the end."""
AWAY_S = 300.0
"""How long the Kubernetes API may be away while a training runs."""
DRAIN_S = 20.0
"""How long the last lines may take after the job has ended."""

LAST_WORDS_S = 3.0
"""How long the lines of pods that we end may take."""


def train_on_kubernetes(
    job: TrainJob,
    kube: Cluster,
    launch: Launch,
    *,
    out: Path,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
    tracking: Callable[[], Tracking | None] | None = None,
) -> TrainedModel:
    """Train a model on a cluster; called again, it finds the running job, goes on after an end, or gives what is there.

    What `modelyard.training.train.train` gives, this gives: the same record, and in `out` the same weights, model
    folder, curves and `job.json`; beside them `logs/`, what each pod wrote.

    Args:
        job: what to train, with the data, code and weights as they lie on this machine.
        kube: the cluster.
        launch: where and how.
        out: folder for the result.
        progress: is told a message and how much is done (0 to 1).
        log: is given every line that a rank writes, with the rank before it.
        tracking: asked for in the background instead of `job.tracking`.

    Raises:
        BadInput: the job, the image, the cluster or the recipe cannot be used; said before anything is submitted where
            the cluster can tell.
        StageFailed: it failed for good, or too often; the message has the cause and its evidence.
        Tampered: something was changed on its way.
        Forbidden, NotInstalled, Unavailable: what the cluster says.
        KeyboardInterrupt: after the job was suspended or deleted, as `launch.on_cancel` says.
    """
    say = progress or (lambda _message, _fraction: None)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    if (done := kept(job, out)) and done.untracked is None:
        return done
    store = open_store(launch.store)
    running = _Running(job, kube, store, launch, describe(job, kube, launch), out, say, log or (lambda _line: None))
    curves = Curves(tracking or (lambda: job.tracking), job, out)
    status = "KILLED"
    try:
        if not done:
            running.run(curves)
        status = "FINISHED"
    except ModelyardError:
        status = "FAILED"
        raise
    finally:
        if status != "FINISHED":
            curves.end(status, wait_s=3.0)
    write_text(out / JOB, to_json(job))
    for event in Follower(out / PROGRESS).new():  # also what the log did not tell
        if event["event"] == "epoch":
            curves.epoch(event)
    curves.end(status)
    return write_trained(finished(out), out, curves, restarts=running.restarts)


class _Running:
    """One launcher's time with a job."""

    def __init__(  # noqa: PLR0917  made in one place
        self, job: TrainJob, kube: Cluster, store: Store, launch: Launch, described: tuple[Api, ClusterJob], out: Path,
        say: Progress, log: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._job, self._kube, self._store, self._launch = job, kube, store, launch
        self._api, self._out, self._say, self._log = described[0], out, say, log
        self._there = TheJob(kube, *described, say)
        self._following = Following(kube, launch.namespace, self._api.container)
        self._book = Logbook(out / FOLDER)
        self._pods = PodWatch(kube, launch.namespace, self._there.labels)
        self._seen: dict[str, Object] = {}
        self._told: set[tuple[str, str]] = set()
        self._last: Finding | None = None
        self._since: dict[Cause, float] = {}
        self._telling = Telling(job.train, say)
        self.restarts = 0

    def run(self, curves: Curves) -> None:
        """From wherever the training is to its result in `out`.

        Raises:
            ModelyardError: it failed; the message has the cause.
        """
        self._say("sending code and data", None)
        shipping.publish(self._job, self._store, self._there.name)
        try:
            self._there.begin()
            self._pods.start()
            self._watch(curves)
        except (KeyboardInterrupt, errors.Stopped):
            self._cancel()
            raise
        finally:
            self._pods.close()
            self._following.close()
            self._book.keep(self._store, self._there.name)
            self._book.close()
        if not shipping.collect(self._store, self._there.name, self._out):
            raise StageFailed(f"{self._there.kind} {self._there.name} is done but handed nothing in", do="read its log")
        if self._api.before:  # it has no time to live of its own
            self._there.delete()

    def _cancel(self) -> None:
        """What was asked for when the launcher is told to stop."""
        with suppress(ModelyardError):
            if self._launch.on_cancel == "delete":
                self._say(f"deleting {self._there.kind} {self._there.name}; the last checkpoint stays", None)
                self._there.delete(wait=False)
            else:
                self._say(f"suspending {self._there.kind} {self._there.name}; run again to go on", None)
                self._there.suspend()

    def _watch(self, curves: Curves) -> None:
        """Until the job is over.

        Raises:
            ModelyardError: it failed.
        """
        looked, kept_at, away = 0.0, time.monotonic(), time.monotonic()
        while True:
            for line in self._following.lines(wait_s=0.05):
                self._line(line, curves)
            now = time.monotonic()
            if now - looked < LOOK_S:
                continue
            looked = now
            try:
                over = self._look()
                away = now
            except Unavailable:
                if now - away > AWAY_S:
                    raise
                continue
            if over:
                return
            if now - kept_at > KEEP_EVERY_S:
                kept_at = now
                self._book.keep(self._store, self._there.name)

    def _look(self) -> bool:
        """Look at job and pods once; whether it is done.

        Raises:
            ModelyardError: it failed.
        """
        job = self._there.get()
        states, there = self._pods.changes()
        changed = {str(pod["metadata"]["uid"]): pod for pod in states}
        for uid, pod in changed.items():
            self._meet(uid, pod, gone=uid not in there)
        if job is None:
            raise StageFailed(f"{self._there.kind} {self._there.name} was deleted by somebody", do="run again to go on")
        state = self._api.state_of(job)
        if state.phase.over:
            for pod in self._kube.list(POD, namespace=self._there.namespace, labels=self._there.labels).items:
                self._meet(str(pod["metadata"]["uid"]), pod)  # the watch may be a moment behind
            self._drain()
            if state.phase is Phase.FAILED:
                raise self._failure(state)
            return True
        self._judge({**changed, **there}, state)
        return False

    def _meet(self, uid: str, pod: Object, *, gone: bool = False) -> None:
        self._seen[uid] = pod
        self.restarts = max(self.restarts, _starts(self._seen.values()) - 1)
        if _begun(pod, self._api.container):
            self._following.follow(name_of(pod), uid)
        if gone or _ended(pod):
            self._following.ended(uid)

    def _judge(self, pods: Mapping[str, Object], state: JobState) -> None:
        """Tell what is wrong while the job is not over, and end it where going on is in vain."""
        finding = diagnose([Seen(pod=pod, tail=self._book.tail(uid)) for uid, pod in pods.items()])
        if finding is None:
            self._since.clear()
            if state.phase is Phase.SUSPENDED:
                queue = self._job.train.resources.queue
                self._telling.waiting(f"waiting in queue {queue}" if queue else "suspended")
        else:
            if (finding.cause, finding.what) not in self._told:
                self._told.add((finding.cause, finding.what))
                self._say(f"{finding.cause}: {finding.what}", None)
            if finding.cause is not Cause.UNSCHEDULABLE:
                self._last = finding
            since = time.monotonic() - self._since.setdefault(finding.cause, time.monotonic())
            if self._in_vain(finding, since):
                self._end(finding)
        stall_s = self._job.train.resources.stall_timeout.seconds
        if state.phase is Phase.RUNNING and self._telling.silent_s > stall_s:
            what = f"nothing happened for {stall_s:g} s, the last was {self._telling.last!r}{self._telling.quietest()}"
            self._end(Finding(cause=Cause.STALLED, fate=Fate.PERMANENT, what=what,
                              do="correct what does not return, or raise train.resources.stallTimeout"))  # fmt: skip
        if state.phase is not Phase.RUNNING:
            self._telling.moved()

    def _in_vain(self, finding: Finding, since: float) -> bool:
        if finding.cause is Cause.UNSCHEDULABLE:
            return since > self._launch.patience_s and not self._job.train.resources.queue
        if finding.cause in (Cause.IMAGE, Cause.CONFIGURATION) and not finding.at:
            return since > BEGIN_S  # a registry may be away for a moment
        return finding.fate is Fate.PERMANENT

    def _end(self, finding: Finding) -> None:
        """End the job, since its operator would go on with it.

        Raises:
            ModelyardError: always: why.
        """
        self._there.delete(wait=False)
        self._drain(LAST_WORDS_S)
        raise self._error(finding)

    def _failure(self, state: JobState) -> ModelyardError:
        seen = [Seen(pod=pod, tail=self._book.tail(uid)) for uid, pod in self._seen.items()]
        finding = diagnose(seen) or self._last
        if "deadline" in f"{state.reason} {state.message}".lower():
            deadline = self._job.train.resources.deadline
            finding = Finding(cause=Cause.DEADLINE, fate=Fate.PERMANENT, what=f"it ran longer than {deadline}",
                              do="raise train.resources.deadline; it goes on from the last checkpoint")  # fmt: skip
        return self._error(finding or Finding(
            cause=Cause.UNKNOWN, fate=Fate.PERMANENT, what=state.message or state.reason or "no reason is known",
            do="read its log",
        ))  # fmt: skip

    def _error(self, finding: Finding) -> ModelyardError:
        what = finding.what
        if finding.cause is Cause.TOO_OFTEN and self._last and self._last.cause is not Cause.TOO_OFTEN:
            what = f"{what}; the last time {self._last.what}"
        if finding.trace:
            self._log(finding.trace)
        kind = getattr(errors, finding.kind, StageFailed)
        place = f"the log is in {self._out / FOLDER} and {self._launch.store}/trainings/{self._there.name}/{FOLDER}"
        made: ModelyardError = kind(f"{finding.cause}: {what}", do=f"{finding.do} ({place})")
        return made

    def _drain(self, within_s: float = DRAIN_S) -> None:
        """Take the last lines."""
        for uid in self._seen:
            self._following.ended(uid)
        until = time.monotonic() + within_s
        while self._following.reading and time.monotonic() < until:
            for line in self._following.lines(wait_s=0.05):
                self._line(line, None)

    def _line(self, line: Line, curves: Curves | None) -> None:
        self._book.write(line)
        if line.text.startswith(MARK):
            self._telling.event(line.text.removeprefix(MARK), curves)
            return
        self._telling.line(line.text, line.time)
        prefix = "" if _RANKED.match(line.text) else f"[{line.pod.removeprefix(f'{self._there.name}-')}] "
        self._log(f"{prefix}{line.text}")


_RANKED: Final = re.compile(r"\[rank \d+\] ")


def _begun(pod: Object, container: str) -> bool:
    return any(
        each["name"] == container and ("running" in each.get("state", {}) or "terminated" in each.get("state", {}))
        for each in (pod.get("status") or {}).get("containerStatuses") or ()
    )


def _ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _starts(pods: Any) -> int:
    """How often the node that was started most often was: an operator makes a pod anew under the same place."""
    places: dict[str, int] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        place = str([
            labels.get(f"training.kubeflow.org/{each}") or labels.get("batch.kubernetes.io/job-completion-index")
            for each in ("replica-type", "replica-index")
        ])  # fmt: skip
        places[place] = places.get(place, 0) + 1
    return max(places.values(), default=1)
