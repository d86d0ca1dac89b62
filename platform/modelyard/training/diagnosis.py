"""Why a training on a cluster does not go on, with the evidence, in one sentence. Pure.

The evidence is what Kubernetes says of the pods (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/),
the report that a node left in its termination message, and what its ranks wrote last. Causes are ordered: the first
process that failed by itself is the cause, what its neighbours say of it afterwards is not.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from modelyard.kube.metadata import name_of
from modelyard.kube.port import Object
from modelyard.record import record
from modelyard.training.failures import Fate
from modelyard.training.pod import FETCH, OTHER_VERSION


class Cause(StrEnum):
    """What it was, from the surest to the least telling."""

    IMAGE = "ImageNotUsable"
    CONFIGURATION = "PodNotConfigured"
    TAMPERED = "Tampered"
    VERSION = "OtherVersion"
    BAD_INPUT = "BadInput"
    DATA = "DataError"
    CUDA_OUT_OF_MEMORY = "CudaOutOfMemory"
    OUT_OF_MEMORY = "OutOfMemory"
    NODE_LOST = "NodeLost"
    PREEMPTED = "Preempted"
    EVICTED = "Evicted"
    USER_CODE = "UserCode"
    COLLECTIVE_TIMEOUT = "CollectiveTimeout"
    TOO_OFTEN = "StartedTooOften"
    UNSCHEDULABLE = "Unschedulable"
    DEADLINE = "DeadlineExceeded"
    STALLED = "Stalled"
    LOST_NEIGHBOUR = "LostNeighbour"
    KILLED = "Killed"
    UNKNOWN = "Unknown"

    @property
    def place(self) -> int:
        """In the order of causes."""
        return list(Cause).index(self)


@record
class Finding:
    """A cause with its evidence."""

    cause: Cause
    fate: Fate
    what: str
    """One sentence, which names the pod or the rank."""
    do: str
    kind: str = "StageFailed"
    """Name of the error's class."""
    trace: str = ""
    """The end of the traceback of the first rank that failed."""
    at: str = ""
    """When, as Kubernetes writes times; empty where it is not known."""


@record
class Seen:
    """A pod as it was last seen, and the end of what it wrote."""

    pod: Mapping[str, Any]
    tail: tuple[str, ...] = ()


_CUDA = re.compile(r"(CUDA out of memory|CUBLAS_STATUS_ALLOC_FAILED|torch\.OutOfMemoryError)[^\n]*")
_RANK: Final = re.compile(r"\[rank ?(\d+)\]", re.IGNORECASE)
_WATCHDOG: Final = re.compile(
    r"\[Rank (\d+)\] Watchdog caught collective operation timeout: WorkNCCL\(.*?OpType=(\w+)"
    r".*? ran for (\d+) milliseconds"
)
_GLOO_TIMEOUT: Final = re.compile(r"Timed out waiting (\d+)ms for (?:recv|send) operation")
_NEIGHBOUR: Final = ("connection closed by peer", "connection reset by peer", "broken pipe", "remote process exited")
_KINDS: Final = {
    "BadInput": "BadInput", "BadSpec": "BadInput", "RecipeError": "BadInput", "FolderError": "BadInput",
    "Tampered": "Tampered", "Unavailable": "Unavailable",
}  # fmt: skip
"""The error that stands for what a rank raised; StageFailed for all else."""
_WAITING: Final = {
    "ErrImagePull": Cause.IMAGE, "ImagePullBackOff": Cause.IMAGE, "InvalidImageName": Cause.IMAGE,
    "ErrImageNeverPull": Cause.IMAGE, "CreateContainerConfigError": Cause.CONFIGURATION,
    "CreateContainerError": Cause.CONFIGURATION, "RunContainerError": Cause.CONFIGURATION,
}  # fmt: skip
_DISRUPTED: Final = {
    "PreemptionByScheduler": (Cause.PREEMPTED, "was preempted by a pod of higher priority"),
    "EvictionByEvictionAPI": (Cause.EVICTED, "was evicted: its node was drained"),
    "DeletionByTaintManager": (Cause.NODE_LOST, "was deleted: its node was tainted, as when it is lost"),
    "DeletionByPodGC": (Cause.NODE_LOST, "was deleted: its node is gone"),
    "TerminationByKubelet": (Cause.EVICTED, "was ended by its node, which shuts down or runs out of something"),
}  # fmt: skip
_MEMORY: Final = "lower train.batchSize or train.resources.loaderWorkers, or raise train.resources.memory"


def diagnose(pods: Sequence[Seen]) -> Finding | None:
    """The cause of all that is wrong with these pods; None when nothing is."""
    found = [finding for seen in pods for finding in findings(seen)]
    if timeout := _timeout(pods):
        found.append(timeout)
    return min(found, key=lambda each: (each.cause.place, each.at), default=None)


def findings(seen: Seen) -> Iterator[Finding]:
    """Everything that is wrong with one pod."""
    status: Mapping[str, Any] = seen.pod.get("status") or {}
    yield from _placement(seen.pod, status)
    containers = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    for container in containers:
        state = container.get("state") or {}
        if waiting := state.get("waiting"):
            yield from _waiting(seen.pod, container, waiting)
        ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            yield _ended(seen, container["name"], container.get("image", ""), ended)


def _placement(pod: Object, status: Mapping[str, Any]) -> Iterator[Finding]:
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        told = str(scheduled.get("message", "")).rstrip(".")
        yield Finding(
            cause=Cause.UNSCHEDULABLE, fate=Fate.RETRY, what=f"{name_of(pod)} finds no place: {told}",
            do="free some, add nodes, or ask for less in train.resources",
        )  # fmt: skip
    target = conditions.get("DisruptionTarget", {})
    if target.get("status") == "True":
        cause, what = _DISRUPTED.get(target.get("reason", ""), (Cause.EVICTED, "was taken away"))
        yield Finding(
            cause=cause, fate=Fate.RETRY, what=f"{name_of(pod)} on {_where(pod)} {what} ({target.get('message', '')})",
            do="it goes on from the last checkpoint", at=str(target.get("lastTransitionTime", "")),
        )  # fmt: skip
    elif status.get("reason") == "Evicted":
        yield Finding(
            cause=Cause.EVICTED, fate=Fate.RETRY,
            what=f"{name_of(pod)} on {_where(pod)} was evicted: {str(status.get('message', '')).strip()}",
            do="ask for what it needs in train.resources, so that it is placed where that is free",
        )  # fmt: skip
    elif status.get("reason") == "NodeLost":
        yield Finding(
            cause=Cause.NODE_LOST, fate=Fate.RETRY, what=f"{_where(pod)} is lost, and {name_of(pod)} with it",
            do="it goes on from the last checkpoint",
        )  # fmt: skip


def _waiting(pod: Object, container: Mapping[str, Any], waiting: Mapping[str, Any]) -> Iterator[Finding]:
    cause = _WAITING.get(waiting.get("reason", ""))
    if cause is None:
        return
    told = str(waiting.get("message") or waiting["reason"]).strip()
    if cause is Cause.IMAGE:
        what = f"the image {container.get('image', '')} cannot be pulled for {name_of(pod)}: {told}"
        do = "correct train.resources.image, or give the ServiceAccount a pull secret"
    else:
        what, do = f"{name_of(pod)} cannot begin: {told}", "make what it names, or correct train.resources"
    yield Finding(cause=cause, fate=Fate.PERMANENT, what=what, do=do)


def _ended(seen: Seen, container: str, image: str, ended: Mapping[str, Any]) -> Finding:
    pod, code, at = name_of(seen.pod), int(ended["exitCode"]), str(ended.get("finishedAt", ""))
    message = str(ended.get("message") or "")
    if ended.get("reason") == "OOMKilled":
        limit = _limit(seen.pod, container)
        what = f"{pod} was ended by the kernel: it used more memory than its {limit or 'node has'}"
        return Finding(cause=Cause.OUT_OF_MEMORY, fate=Fate.RETRY, what=what, do=_MEMORY, at=at)
    if "No module named 'modelyard" in message or "No module named modelyard" in message:
        return Finding(
            cause=Cause.IMAGE, fate=Fate.PERMANENT, what=f"the image {image} has no Modelyard in it", at=at,
            do="build it from Modelyard's training image, or install modelyard[train] in it",
        )  # fmt: skip
    if report := _report(message):
        return _reported(seen, container, report, code, at)
    if code >= 128:
        what = f"{pod} was ended by signal {code - 128}"
        return Finding(cause=Cause.KILLED, fate=Fate.RETRY, what=what, do="it goes on from the last checkpoint", at=at)
    last = message.strip().splitlines()[-1:] or list(seen.tail[-1:])
    what = f"{container} of {pod} ended with {code}{': ' + last[0].strip() if last else ' and no word'}"
    return Finding(cause=Cause.UNKNOWN, fate=Fate.PERMANENT, what=what, do="read the log", at=at)


def _reported(seen: Seen, container: str, report: Mapping[str, Any], code: int, at: str) -> Finding:
    """What a node or the init container said of itself."""
    kind, what, rank = str(report["kind"]), str(report["what"]), int(report.get("rank", -1))
    trace, do = str(report.get("trace", "")), str(report["do"])
    who = f"rank {rank} of {name_of(seen.pod)}" if rank >= 0 else name_of(seen.pod)
    fate = Fate.PERMANENT if code < 128 else Fate.RETRY
    cause = Cause.VERSION if container == FETCH and code == OTHER_VERSION else _cause(kind, what, trace, rank, fate)
    if cause is Cause.CUDA_OUT_OF_MEMORY:
        do = "lower train.batchSize, raise train.accumulate, or take a GPU with more memory"
    known = _KINDS.get(kind, "StageFailed")
    return Finding(cause=cause, fate=fate, what=f"{who}: {what}", do=do, kind=known, trace=trace, at=at)


def _cause(kind: str, what: str, trace: str, rank: int, fate: Fate) -> Cause:
    low = what.lower()
    for cause, holds in (
        (Cause.TAMPERED, kind == "Tampered"),
        (Cause.CUDA_OUT_OF_MEMORY, _CUDA.search(f"{what} {trace}") is not None),
        (Cause.OUT_OF_MEMORY, "out of memory" in low),
        (Cause.TOO_OFTEN, "never finished" in low),
        (Cause.USER_CODE, kind == "RecipeError" and " raised " in what),
        (Cause.DATA, _KINDS.get(kind) == "BadInput" and any(sign in low for sign in ("shard", "data ", "split"))),
        (Cause.BAD_INPUT, _KINDS.get(kind) == "BadInput"),
        (Cause.LOST_NEIGHBOUR, "a process was lost" in low or any(sign in low for sign in _NEIGHBOUR)),
        (Cause.USER_CODE, fate is Fate.PERMANENT and rank >= 0),
    ):  # fmt: skip
        if holds:
            return cause
    return Cause.KILLED if fate is Fate.RETRY else Cause.UNKNOWN


def _report(message: str) -> Mapping[str, Any] | None:
    """The report in a termination message; kubelet cuts it at 4096 bytes, so its end may be missing."""
    try:
        found = json.loads(message)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"kind", "what", "do"} <= set(found) else None


def _timeout(pods: Sequence[Seen]) -> Finding | None:
    """NCCL's watchdogs say who waited; who said nothing is whom they waited for."""
    lines = [line for seen in pods for line in seen.tail]
    waited = {int(found[1]): found for line in lines if (found := _WATCHDOG.search(line))}
    if waited:
        spoke = {int(found[1]) for line in lines if (found := _RANK.search(line))} | set(waited)
        world = max(spoke) + 1
        silent = sorted(set(range(world)) - set(waited))
        operation, seconds = next(iter(waited.values())).group(2), int(next(iter(waited.values())).group(3)) / 1000
        whom = _ranks(silent) if silent else "another rank"
        return Finding(
            cause=Cause.COLLECTIVE_TIMEOUT, fate=Fate.RETRY,
            what=f"{whom} was silent: {_ranks(sorted(waited))} waited {seconds:.0f} s for it in {operation} (NCCL)",
            do="look at that rank's log and node; it goes on from the last checkpoint",
        )  # fmt: skip
    for seen in pods:
        for line in seen.tail:
            if found := _GLOO_TIMEOUT.search(line):
                rank = _RANK.search(line)
                who = f"rank {rank[1]}" if rank else name_of(seen.pod)
                return Finding(
                    cause=Cause.COLLECTIVE_TIMEOUT, fate=Fate.RETRY,
                    what=f"{who} waited {int(found[1]) / 1000:.0f} s for another rank (gloo)",
                    do="look for the rank whose log ends first; it goes on from the last checkpoint",
                )  # fmt: skip
    return None


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'' if len(ranks) == 1 else 's'} {', '.join(map(str, ranks))}"


def _where(pod: Object) -> str:
    return str(pod.get("spec", {}).get("nodeName") or "its node")


def _limit(pod: Object, container: str) -> str:
    for each in pod.get("spec", {}).get("containers", ()):
        if each["name"] == container:
            return str((each.get("resources") or {}).get("limits", {}).get("memory", ""))
    return ""
