"""A cluster that trains, in memory: an API with pod logs, training-operator, and a kubelet that plays scripts.

The operator does what 1.9.4 was seen to do: pods by replica with the PET_* variables, ExitCode (1 to 127 for good; 128
and above, and no code at all, made anew without counting), Succeeded by the Master, `suspend`, `cleanPodPolicy`.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from tests.fakes.cluster import FakeKube

from modelyard.errors import Conflict, Unavailable
from modelyard.kube.metadata import owner_reference
from modelyard.kube.port import POD, PYTORCH_JOB, Object

EPOCH = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POLL_S = 0.01


@dataclass
class _Log:
    lines: list[tuple[str, str]] = field(default_factory=list)
    begun: bool = False
    ended: bool = False


class TrainingCluster(FakeKube):
    """The `Cluster` port. `drop` is asked before each line of a followed log; true breaks the connection there."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.drop: Callable[[str, int], bool] = lambda _pod, _line: False
        self._logs: dict[tuple[str, str], _Log] = {}
        self._written = threading.Condition()
        self._tick = 0

    def log(
        self, namespace: str, pod: str, *, container: str, since: str = "", deadline_s: float = 0.0
    ) -> Iterator[str] | None:
        if self.get(POD, namespace, pod) is None:
            return None
        log = self._logs.get((pod, container))
        return None if log is None or not log.begun else self._read(pod, log, since[:19], deadline_s)

    def _read(self, pod: str, log: _Log, since: str, deadline_s: float) -> Iterator[str]:
        at, until = 0, monotonic() + deadline_s
        while True:
            with self._written:
                new = log.lines[at:]
                while not new and not log.ended and (left := until - monotonic()) > 0:
                    self._written.wait(left)
                    new = log.lines[at:]
            if not new:
                return
            for time, text in new:
                at += 1
                if time[:19] >= since:
                    if deadline_s and self.drop(pod, at):
                        return
                    yield f"{time} {text}"
            until = monotonic() + deadline_s

    def begin_log(self, pod: str, container: str) -> None:
        """A container begins: its log is a new one."""
        with self._written:
            self._logs[(pod, container)] = _Log(begun=True)

    def write(self, pod: str, container: str, *texts: str) -> None:
        """A container writes lines, several in each nanosecond's tick now and then."""
        with self._written:
            for text in texts:
                self._tick += 1
                instant = EPOCH + timedelta(milliseconds=self._tick // 3)  # three lines in each instant
                stamp = instant.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".") + "Z"
                self._logs[(pod, container)].lines.append((stamp, text))
            self._written.notify_all()

    def end_log(self, pod: str, container: str) -> None:
        """A container has ended."""
        with self._written:
            if log := self._logs.get((pod, container)):
                log.ended = True
            self._written.notify_all()


@dataclass(frozen=True)
class Pod:
    """A pod in the hands of a kubelet."""

    cluster: TrainingCluster
    namespace: str
    name: str
    uid: str
    index: int
    """Of the node in the training, from 0."""
    start: int
    """How many pods of this place there were before."""
    spec: Any
    container: str = "pytorch"

    def begin(self) -> None:
        """The main container runs."""
        self.cluster.begin_log(self.name, self.container)
        self.status(phase="Running", containerStatuses=[self._container({"running": {}})])

    def write(self, *lines: str) -> None:
        """The main container writes."""
        self.cluster.write(self.name, self.container, *lines)

    def wait(self, reason: str, message: str) -> None:
        """The main container waits for something."""
        state = {"waiting": {"reason": reason, "message": message}}
        self.status(phase="Pending", containerStatuses=[self._container(state)])

    def end(self, code: int, *, message: str = "", reason: str = "", container: str = "", **status: Any) -> None:
        """A container has ended, and the pod with it."""
        ended = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error"), "message": message}
        ended |= {"finishedAt": "2026-01-02T03:05:00Z"}
        which = "initContainerStatuses" if container else "containerStatuses"
        told = {which: [self._container({"terminated": ended}, container)]}
        self.cluster.end_log(self.name, self.container)
        self.status(phase="Failed" if code else "Succeeded", **told, **status)

    def status(self, **status: Any) -> None:
        """Write its status."""
        found: Any = self.cluster.get(POD, self.namespace, self.name)
        if found is not None and found["metadata"]["uid"] == self.uid:
            found["status"] = {**found.get("status", {}), **status}
            self.cluster.replace(found, manager="kubelet", subresource="status")

    @property
    def gone(self) -> bool:
        """Whether somebody deleted it."""
        found = self.cluster.get(POD, self.namespace, self.name)
        return found is None or found["metadata"]["uid"] != self.uid

    def _container(self, state: dict[str, Any], name: str = "") -> dict[str, Any]:
        return {"name": name or self.container, "image": self.spec["containers"][0]["image"], "state": state}


Script = Callable[[Pod], None]
"""What happens in one pod, in a thread of its own."""


class Operator:
    """training-operator and a kubelet, in threads; `with Operator(cluster, script):`."""

    def __init__(self, cluster: TrainingCluster, script: Script) -> None:
        self.cluster, self.script = cluster, script
        self.pods_made: list[str] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._starts: dict[str, int] = {}
        self.errors: list[BaseException] = []

    def __enter__(self) -> "Operator":
        self._run(self._work)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        if self.errors:
            raise self.errors[0]

    def _run(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self.errors.append(error)

        self._threads.append(threading.Thread(target=guarded, daemon=True))
        self._threads[-1].start()

    def _work(self) -> None:
        while not self._stop.wait(POLL_S):
            for job in self.cluster.all(PYTORCH_JOB):
                try:
                    self.reconcile(job)
                except (Conflict, Unavailable):
                    continue

    def reconcile(self, job: Object) -> None:  # noqa: C901  as the operator's own
        """One look at one job."""
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        conditions = {each["type"]: each["status"] for each in (job.get("status") or {}).get("conditions", ())}
        mine = {
            pod["metadata"]["name"]: pod
            for pod in self.cluster.all(POD)
            if pod["metadata"]["labels"].get("training.kubeflow.org/job-name") == name
        }
        if "True" in (conditions.get("Succeeded"), conditions.get("Failed")):
            return
        if job["spec"]["runPolicy"].get("suspend"):
            for pod in mine.values():
                self.cluster.delete(POD, namespace, pod["metadata"]["name"])
            self._condition(job, "Suspended")
            return
        replicas = job["spec"]["pytorchReplicaSpecs"]
        phases: dict[str, str] = {}
        for kind, spec in replicas.items():
            for index in range(spec["replicas"]):
                place = f"{name}-{kind.lower()}-{index}"
                pod = mine.get(place)
                if pod is None:
                    self._make(job, kind, index, place)
                    continue
                phases[place] = (pod.get("status") or {}).get("phase", "Pending")
                if phases[place] == "Failed" and self._again(job, pod):
                    return
        master = f"{name}-master-0" if "Master" in replicas else f"{name}-worker-0"
        if phases.get(master) == "Succeeded":
            for place, phase in phases.items():
                if phase == "Running":  # cleanPodPolicy: Running
                    self.cluster.delete(POD, namespace, place)
            self._condition(job, "Succeeded")
        elif "Running" in phases.values():
            self._condition(job, "Running")

    def _again(self, job: Object, pod: Object) -> bool:
        """ExitCode: whether the job is over."""
        ended = [
            each["state"]["terminated"]["exitCode"]
            for each in pod["status"].get("containerStatuses", ())
            if "terminated" in each["state"]
        ]
        if ended and ended[0] < 128:
            self._condition(job, "Failed", f"job {job['metadata']['name']} is failing because replica(s) failed.")
            return True
        self.cluster.delete(POD, job["metadata"]["namespace"], pod["metadata"]["name"])
        self._condition(job, "Restarting")
        return False

    def _make(self, job: Object, kind: str, index: int, place: str) -> None:
        spec = job["spec"]["pytorchReplicaSpecs"][kind]["template"]
        node = index + (1 if kind == "Worker" and "Master" in job["spec"]["pytorchReplicaSpecs"] else 0)
        labels = {
            **spec["metadata"]["labels"], "training.kubeflow.org/job-name": job["metadata"]["name"],
            "training.kubeflow.org/replica-type": kind.lower(), "training.kubeflow.org/replica-index": str(index),
        }  # fmt: skip
        about = {
            "name": place, "namespace": job["metadata"]["namespace"], "labels": labels,
            "ownerReferences": [owner_reference(job)],
        }  # fmt: skip
        made: Any = self.cluster.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec["spec"]}, manager="operator"
        )
        start = self._starts.get(place, 0)
        self._starts[place] = start + 1
        self.pods_made.append(place)
        pod = Pod(
            self.cluster, about["namespace"], place, made["metadata"]["uid"], node, start, spec["spec"],
            spec["spec"]["containers"][0]["name"],
        )  # fmt: skip
        self._run(lambda: self.script(pod))

    def _condition(self, job: Object, kind: str, message: str = "") -> None:
        found: Any = self.cluster.get(PYTORCH_JOB, job["metadata"]["namespace"], job["metadata"]["name"])
        if found is None:
            return
        conditions = {each["type"]: each for each in (found.get("status") or {}).get("conditions", ())}
        if conditions.get(kind, {}).get("status") == "True":
            return
        for other in ("Running", "Restarting", "Suspended"):
            if other in conditions and other != kind:
                conditions[other] = {**conditions[other], "status": "False"}
        conditions[kind] = {"type": kind, "status": "True", "reason": f"PyTorchJob{kind}", "message": message}
        found["status"] = {"conditions": list(conditions.values())}
        self.cluster.replace(found, manager="operator", subresource="status")


def node(name: str, *, gpus: int = 0, **labels: str) -> dict[str, Any]:
    """A node with GPUs."""
    label = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    status = {"allocatable": {"cpu": "64", "memory": "512Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": label}, "status": status}


def add_nodes(cluster: FakeKube, *nodes: dict[str, Any]) -> None:
    """Nodes come into a cluster; their status is written apart."""
    for each in nodes:
        made: Any = cluster.create(each, manager="kubelet")
        made["status"] = each["status"]
        cluster.replace(made, manager="kubelet", subresource="status")
