"""Each failure of a training on a cluster has its cause and its evidence in one sentence."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from modelyard.spec.codec import to_json
from modelyard.training.diagnosis import Cause, Finding, Seen, diagnose
from modelyard.training.failures import Fate, Report

IMAGE = "training:1"


def pod(name: str = "digits-worker-2", *, node: str = "gpu-3", limit: str = "64Gi", **status: Any) -> dict[str, Any]:
    container = {"name": "pytorch", "resources": {"limits": {"memory": limit}}}
    return {
        "metadata": {"name": name, "uid": name},
        "spec": {"nodeName": node, "containers": [container]},
        "status": status,
    }


def ended(
    code: int, message: str = "", *, reason: str = "Error", container: str = "pytorch", at: str = "1"
) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}}
    which = "containerStatuses" if container == "pytorch" else "initContainerStatuses"
    return {"phase": "Failed", which: [{"name": container, "image": IMAGE, "state": state}]}


def waiting(reason: str, message: str) -> dict[str, Any]:
    return {
        "containerStatuses": [
            {"name": "pytorch", "image": IMAGE, "state": {"waiting": {"reason": reason, "message": message}}}
        ]
    }


def disrupted(reason: str, message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]}


def told(what: str, *, kind: str = "StageFailed", rank: int = 5, trace: str = "") -> str:
    return to_json(Report(rank=rank, kind=kind, what=what, do="do it", at=time.time(), trace=trace), indent=None)


def found(status: Mapping[str, Any], *tail: str) -> Finding:
    finding = diagnose([Seen(pod=pod(**status), tail=tail)])
    assert finding is not None
    return finding


CASES = {
    "a container that used more memory than its limit": (
        ended(137, reason="OOMKilled"), Cause.OUT_OF_MEMORY, Fate.RETRY,
        "digits-worker-2 was ended by the kernel: it used more memory than its 64Gi",
    ),
    "a rank that the kernel ended for its memory": (
        ended(138, told("Process 5 was killed: out of memory", rank=-1)), Cause.OUT_OF_MEMORY,
        Fate.RETRY, "out of memory",
    ),
    "CUDA out of memory": (
        ended(1, told("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")),
        Cause.CUDA_OUT_OF_MEMORY, Fate.PERMANENT, "rank 5 of digits-worker-2: torch.OutOfMemoryError",
    ),
    "user code": (
        ended(1, told("ZeroDivisionError: division by zero")), Cause.USER_CODE, Fate.PERMANENT,
        "rank 5 of digits-worker-2: ZeroDivisionError: division by zero",
    ),
    "a recipe that raises": (
        ended(2, told("recipe.py:Bad.loss raised ZeroDivisionError: no luck (recipe.py, line 59)", kind="RecipeError")),
        Cause.USER_CODE, Fate.PERMANENT, "no luck (recipe.py, line 59)",
    ),
    "a recipe that cannot be used": (
        ended(2, told("recipe.py has no class Digits", kind="RecipeError")), Cause.BAD_INPUT,
        Fate.PERMANENT, "has no class",
    ),
    "a shard that was changed": (
        ended(1, told("Shard train-3 in s3://b is cut short or changed", kind="Tampered")), Cause.TAMPERED,
        Fate.PERMANENT, "cut short",
    ),
    "data that is gone": (
        ended(2, told("Shard train-3 is gone", kind="BadInput")), Cause.DATA, Fate.PERMANENT, "is gone",
    ),
    "a neighbour that was lost": (
        ended(138, told("A process was lost: Connection closed by peer", rank=-1)), Cause.LOST_NEIGHBOUR,
        Fate.RETRY, "lost",
    ),
    "preempted": (
        disrupted("PreemptionByScheduler", "preempting to accommodate a higher priority pod"), Cause.PREEMPTED,
        Fate.RETRY,
        "digits-worker-2 on gpu-3 was preempted by a pod of higher priority",
    ),
    "evicted by a drain": (
        disrupted("EvictionByEvictionAPI", "Eviction API: evicting"), Cause.EVICTED, Fate.RETRY, "its node was drained",
    ),
    "evicted by its node": (
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."},
        Cause.EVICTED, Fate.RETRY, "low on resource: ephemeral-storage",
    ),
    "a node that is lost": (
        disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"), Cause.NODE_LOST,
        Fate.RETRY,
        "on gpu-3 was deleted: its node was tainted",
    ),
    "an image that is not there": (
        waiting("ImagePullBackOff", 'Back-off pulling image "training:1": not found'), Cause.IMAGE, Fate.PERMANENT,
        "the image training:1 cannot be pulled",
    ),
    "a secret without its key": (
        waiting("CreateContainerConfigError", "couldn't find key accessKeyID in Secret vision/bucket"),
        Cause.CONFIGURATION, Fate.PERMANENT, "couldn't find key accessKeyID",
    ),
    "no place": (
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                         "message": "0/9 nodes are available: 9 Insufficient nvidia.com/gpu."}]},
        Cause.UNSCHEDULABLE, Fate.RETRY, "0/9 nodes are available: 9 Insufficient nvidia.com/gpu",
    ),
    "an image without Modelyard": (
        ended(1, "python: No module named modelyard", container="fetch"), Cause.IMAGE, Fate.PERMANENT,
        "the image training:1 has no Modelyard in it",
    ),
    "another version": (
        ended(78, told("the image has Modelyard 0.0.1, the training was started by 0.1.0", kind="BadInput", rank=-1),
              container="fetch"), Cause.VERSION, Fate.PERMANENT, "has Modelyard 0.0.1",
    ),
    "killed by nobody knows whom": (ended(137), Cause.KILLED, Fate.RETRY, "was ended by signal 9"),
    "an end without a word": (ended(1), Cause.UNKNOWN, Fate.PERMANENT, "ended with 1 and no word"),
    "a report that kubelet cut": (
        ended(1, told("x" * 10)[:30]), Cause.UNKNOWN, Fate.PERMANENT, "ended with 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_cause_is_found(case: str) -> None:
    """kubeflow/pipelines #13192: the reason of an out-of-memory kill or a failed image pull is lost."""
    status, cause, fate, said = CASES[case]
    finding = found(status)
    assert (finding.cause, finding.fate) == (cause, fate)
    assert said in finding.what
    assert "\n" not in finding.what
    assert finding.do


def test_pods_that_are_well_have_no_cause() -> None:
    running = {"phase": "Running", "containerStatuses": [{"name": "pytorch", "state": {"running": {}}}]}
    assert diagnose([Seen(pod=pod(**running))]) is None
    assert diagnose([]) is None


def watchdog(rank: int) -> str:
    return (
        f"[rank {rank}] [Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, "
        "OpType=ALLREDUCE, NumelIn=4, NumelOut=4, Timeout(ms)=600000) ran for 600012 milliseconds before timing out."
    )


def test_of_a_collective_that_timed_out_the_silent_rank_is_named() -> None:
    seen = [
        Seen(pod=pod("a"), tail=(watchdog(0), watchdog(1))),
        Seen(pod=pod("b"), tail=("[rank 2] reading", watchdog(3))),
    ]
    finding = diagnose(seen)
    assert finding is not None
    assert finding.cause is Cause.COLLECTIVE_TIMEOUT
    assert finding.what == "rank 2 was silent: ranks 0, 1, 3 waited 600 s for it in ALLREDUCE (NCCL)"


def test_who_failed_first_is_the_cause_and_not_its_neighbours() -> None:
    """The master runs on after a worker failed (kubeflow/trainer #1579), and fails later with less to say."""
    neighbour = ended(138, told("A process was lost: Connection closed by peer", rank=-1), at="2")
    culprit = ended(1, told("ValueError: odd", rank=9), at="3")
    finding = diagnose([Seen(pod=pod("master-0", **neighbour)), Seen(pod=pod("worker-0", **culprit))])
    assert finding is not None
    assert finding.what == "rank 9 of worker-0: ValueError: odd"


def test_of_two_ranks_that_failed_alike_the_first_is_named() -> None:
    late, early = (
        ended(1, told("ValueError: odd", rank=0), at="2026-01-02T00:00:02Z"),
        ended(1, told("ValueError: odd", rank=7), at="2026-01-02T00:00:01Z"),
    )
    finding = diagnose([Seen(pod=pod("a", **late)), Seen(pod=pod("b", **early))])
    assert finding is not None
    assert finding.what.startswith("rank 7 of b")
