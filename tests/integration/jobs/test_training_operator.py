"""training-operator 1.9.4 itself, kube-scheduler, and nodes without machines: what they make of our jobs.

Runs where the binaries are: `python -m tests.cluster.build training-operator kube-scheduler`.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.cluster import build, training
from tests.cluster.fixtures import SKIPPED, Cluster
from tests.unit.training.jobs import GPUS, SMALL, SPOT

from modelyard.errors import Conflict, ModelyardError, Refused
from modelyard.kube.port import NODE, POD, PYTORCH_JOB
from modelyard.processes import wait_until
from modelyard.spec.train import Checkpoints, TrainResources
from modelyard.training import pytorchjob
from modelyard.training.job import ClusterJob
from modelyard.training.pod import TRAINING_LABEL
from modelyard.training.state import Phase

pytestmark = [pytest.mark.process, pytest.mark.slow]
NEEDED = ("training-operator", "kube-scheduler", "kubectl")
TWO = TrainResources(nodes=2, processes_per_node=2, checkpoints=Checkpoints(claim="checkpoints"))
WAIT_S = 90.0


@pytest.fixture(scope="module")
def operated(training_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, with an operator, a scheduler, and four nodes of eight GPUs."""
    if not training_cluster.ours:
        pytest.skip("operators are started beside a control plane of our own only")
    if gone := build.missing(NEEDED):
        pytest.skip(f"{SKIPPED}{', '.join(gone)} not built: python -m tests.cluster.build {' '.join(gone)}")
    home, config = tmp_path_factory.mktemp("operator"), training_cluster.kubeconfig
    kube = training_cluster.kube
    children = [
        training.start_scheduler(config, home), training.start_operator(kube, config, home),
    ]  # fmt: skip
    try:
        for number in range(4):
            kube.create(gpu_node(f"gpu-{number}"), manager="tests")
            wait_until(partial(untainted, training_cluster, f"gpu-{number}"), deadline_s=20, what="a node")

        def answers() -> bool:
            try:
                kube.create(two("default", name="ready"), manager="tests")
            except ModelyardError:
                return False
            kube.delete(PYTORCH_JOB, "default", "ready")
            return True

        wait_until(answers, deadline_s=WAIT_S, what="training-operator's webhook", child=children[-1])
        yield training_cluster
    finally:
        for number in range(4):
            kube.delete(NODE, "", f"gpu-{number}")
        for child in reversed(children):
            child.stop(grace=2.0)
        training.stop_webhook(config)


def untainted(cluster: Cluster, name: str) -> bool:
    """A new node is tainted as not ready; the controller that would take that away does not run here."""
    found: Any = cluster.kube.get(NODE, "", name)
    found["spec"].pop("taints", None)
    try:
        cluster.kube.replace(found, manager="tests")
    except ModelyardError:  # its controllers write too
        return False
    return True


def gpu_node(name: str) -> dict[str, Any]:
    capacity = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"}
    about = {
        "name": name,
        "labels": {"nvidia.com/gpu.product": str(GPUS.gpu_type), "pool": "training", "kubernetes.io/hostname": name},
    }  # fmt: skip
    status = {"allocatable": capacity, "capacity": capacity}
    return {"apiVersion": "v1", "kind": "Node", "metadata": about, "status": status}


def two(namespace: str, **changes: Any) -> dict[str, Any]:
    return dict(pytorchjob.pytorch_job(plain(replace(SMALL, namespace=namespace, resources=TWO, **changes))))


def plain(job: ClusterJob) -> ClusterJob:
    """Without a claim: nobody provides volumes here."""
    return replace(job, resources=replace(job.resources, checkpoints=Checkpoints()))


def pods(cluster: Cluster, namespace: str, count: int) -> dict[str, Any]:
    def found() -> dict[str, Any]:
        there = cluster.kube.list(POD, namespace=namespace, labels={TRAINING_LABEL: SMALL.name}).items
        return {each["metadata"]["name"]: each for each in there} if len(there) == count else {}

    return wait_until(found, deadline_s=WAIT_S, what=f"{count} pods")


def environment(pod: Any) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}


def test_two_nodes_of_two_processes_get_the_environment_that_torchrun_reads(operated: Cluster, namespace: str) -> None:
    operated.kube.create(two(namespace), manager="tests")
    made = pods(operated, namespace, 2)
    for place, rank in (("master-0", "0"), ("worker-0", "1")):
        told = environment(made[f"{SMALL.name}-{place}"])
        expected = {
            "PET_NNODES": "2", "PET_NPROC_PER_NODE": "2", "PET_NODE_RANK": rank, "RANK": rank, "WORLD_SIZE": "4",
            "MASTER_ADDR": f"{SMALL.name}-master-0", "PET_MASTER_ADDR": f"{SMALL.name}-master-0",
            "MASTER_PORT": "23456", "PET_MASTER_PORT": "23456",
        }  # fmt: skip
        assert {name: told.get(name) for name in expected} == expected


def test_an_elastic_job_meets_at_its_first_worker(operated: Cluster, namespace: str) -> None:
    resources = replace(SPOT.resources, gpus=0, spot=False, service_account=None)
    job = plain(replace(SPOT, namespace=namespace, resources=resources))
    operated.kube.create(pytorchjob.pytorch_job(job), manager="tests")
    told = environment(pods(operated, namespace, 2)[f"{SMALL.name}-worker-1"])
    assert told["PET_NNODES"] == "1:4"
    assert told["PET_RDZV_BACKEND"] == "c10d"
    assert told["PET_RDZV_ENDPOINT"] == f"{SMALL.name}-worker-0:23456"


def test_four_nodes_of_eight_gpus_take_four_pods_of_eight(operated: Cluster, namespace: str) -> None:
    """The workers' init containers wait for the Master's name, which nobody resolves here: placed is enough."""
    resources = replace(GPUS, queue=None, topology=None, secret=None)
    job = plain(replace(SMALL, namespace=namespace, resources=replace(resources, tolerations=())))
    operated.kube.create(pytorchjob.pytorch_job(job), manager="tests")

    def placed() -> set[str]:
        found = {each["spec"].get("nodeName", "") for each in pods(operated, namespace, 4).values()}
        return found if "" not in found else set()

    assert wait_until(placed, deadline_s=WAIT_S, what="a place for each") == {f"gpu-{number}" for number in range(4)}


def test_a_suspended_job_has_no_pods_until_it_is_let_go(operated: Cluster, namespace: str) -> None:
    """What a queue does: none begins before there is room for all."""
    job = two(namespace)
    job["spec"]["runPolicy"]["suspend"] = True
    operated.kube.create(job, manager="tests")

    def suspended() -> bool:
        return pytorchjob.state_of(operated.kube.get(PYTORCH_JOB, namespace, SMALL.name) or {}).phase is Phase.SUSPENDED

    wait_until(suspended, deadline_s=WAIT_S, what="Suspended")
    assert operated.kube.list(POD, namespace=namespace).items == ()

    def let_go() -> bool:
        found: Any = operated.kube.get(PYTORCH_JOB, namespace, SMALL.name)
        found["spec"]["runPolicy"]["suspend"] = False
        with suppress(Conflict):  # its operator writes too
            return bool(operated.kube.replace(found, manager="tests"))
        return False

    wait_until(let_go, deadline_s=WAIT_S, what="a write between two of the operator's")
    pods(operated, namespace, 2)


def failed(cluster: Cluster, namespace: str, code: int) -> str:
    """Let the Master's container end with a code; gives the uid that the pod had."""
    pod: Any = pods(cluster, namespace, 2)[f"{SMALL.name}-master-0"]
    state = {"terminated": {"exitCode": code, "reason": "Error", "finishedAt": "2026-01-02T03:04:05Z",
                            "startedAt": "2026-01-02T03:04:00Z"}}  # fmt: skip
    status = {"name": "pytorch", "state": state, "image": "a", "imageID": "a", "ready": False, "restartCount": 0}
    for _ in range(20):
        pod["status"] = {**pod.get("status", {}), "phase": "Failed", "containerStatuses": [status]}
        try:
            cluster.kube.replace(pod, manager="tests", subresource="status")
            break
        except ModelyardError:  # the scheduler writes too
            time.sleep(0.1)
            pod = cluster.kube.get(POD, namespace, f"{SMALL.name}-master-0")
    return str(pod["metadata"]["uid"])


def test_a_code_from_128_on_makes_the_pod_anew(operated: Cluster, namespace: str) -> None:
    operated.kube.create(two(namespace), manager="tests")
    uid = failed(operated, namespace, 138)

    def anew() -> bool:
        found = operated.kube.get(POD, namespace, f"{SMALL.name}-master-0")
        return found is not None and found["metadata"]["uid"] != uid

    wait_until(anew, deadline_s=WAIT_S, what="a new pod")


def test_a_code_below_128_ends_the_job(operated: Cluster, namespace: str) -> None:
    operated.kube.create(two(namespace), manager="tests")
    failed(operated, namespace, 2)

    def over() -> bool:
        return pytorchjob.state_of(operated.kube.get(PYTORCH_JOB, namespace, SMALL.name) or {}).phase is Phase.FAILED

    wait_until(over, deadline_s=WAIT_S, what="the end of the job")


def test_its_webhook_refuses_what_it_would_not_run(operated: Cluster, namespace: str) -> None:
    """So that it takes ours means something."""
    job = deepcopy(two(namespace))
    job["spec"]["pytorchReplicaSpecs"]["Master"]["replicas"] = 2
    with pytest.raises(Refused, match="must be 1"):
        operated.kube.create(job, manager="tests")


def test_the_state_of_a_job_is_read_from_what_the_operator_writes(operated: Cluster, namespace: str) -> None:
    operated.kube.create(two(namespace), manager="tests")
    pods(operated, namespace, 2)

    def phase() -> Phase:
        return pytorchjob.state_of(operated.kube.get(PYTORCH_JOB, namespace, SMALL.name) or {}).phase

    wait_until(lambda: phase() in (Phase.PENDING, Phase.RUNNING), deadline_s=WAIT_S, what="a state")
