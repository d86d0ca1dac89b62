"""What the launcher refuses before anything is submitted."""

from typing import Any

import pytest
from tests.fakes.training_cluster import add_nodes, node
from tests.unit.training.launching import (
    NAMESPACE,
    World,
    claim,
    in_thread,
    with_resources,
)

from modelyard.errors import BadInput, Forbidden, NotInstalled
from modelyard.kube.port import PYTORCH_JOB, SECRET, TRAIN_JOB, TRAINING_RUNTIME
from modelyard.processes import wait_until
from modelyard.spec.train import Checkpoints


def refused(world: World, what: str, error: type[Exception] = BadInput) -> None:
    with pytest.raises(error, match=what):
        world.train()
    assert not any(call.writes for call in world.cluster.calls if call.kind in (PYTORCH_JOB, TRAIN_JOB))
    assert not (world.home / "store").exists()


def gpus(world: World, **changes: Any) -> World:
    world.job = with_resources(world.job, gpus=8, processes_per_node=8, **changes)
    add_nodes(
        world.cluster, node("a", gpus=4, nvidia_com__gpu_product="NVIDIA-A100"),
        node("b", gpus=8, nvidia_com__gpu_product="NVIDIA-T4"), node("c"),
    )  # fmt: skip
    return world


def test_a_gpu_type_that_no_node_has_is_refused_with_those_that_there_are(world: World) -> None:
    gpus(world, gpu_type="NVIDIA-H100")
    refused(world, r"no node has NVIDIA-H100 \(there are: NVIDIA-A100 \(1 node\), NVIDIA-T4 \(1 node\)\)")


def test_more_gpus_than_any_node_has_are_refused(world: World) -> None:
    refused(gpus(world, gpu_type="NVIDIA-A100"), "8 of NVIDIA-A100 for each node, but no node has more than 4")


def test_gpus_that_come_when_they_are_asked_for_are_not_refused(world: World) -> None:
    world.job = with_resources(world.job, gpus=8, processes_per_node=8, gpu_type="NVIDIA-H100")
    add_nodes(world.cluster, node("c"))
    world.train(world.succeed)


def test_a_cluster_without_either_kind_of_job_is_refused(world: World) -> None:
    world.cluster.absent = {PYTORCH_JOB, TRAIN_JOB}
    refused(world, "knows neither PyTorchJob .* nor TrainJob", NotInstalled)


def test_without_rights_to_either_kind_the_right_is_named(world: World) -> None:
    def before(call: Any) -> None:
        if call.kind in (PYTORCH_JOB, TRAIN_JOB):
            raise Forbidden(f"no right to get {call.kind.plural}.{call.kind.group}", do="grant it")

    world.cluster.before = before
    refused(world, r"no right to get pytorchjobs\.kubeflow\.org", Forbidden)


def test_without_pytorchjob_a_trainjob_is_made_with_a_runtime_that_goes_with_it(world: World) -> None:
    world.cluster.absent = {PYTORCH_JOB}
    thread, raised = in_thread(world.train)
    wait_until(lambda: world.cluster.all(TRAIN_JOB), deadline_s=20, what="the job")
    wait_until(
        lambda: world.cluster.all(TRAINING_RUNTIME)[0]["metadata"].get("ownerReferences"),
        deadline_s=20,
        what="its owner",
    )
    job = world.cluster.all(TRAIN_JOB)[0]
    world.cluster.delete(TRAIN_JOB, NAMESPACE, job["metadata"]["name"])
    thread.join(30)
    assert "was deleted" in str(raised[0])
    assert world.cluster.all(TRAINING_RUNTIME) == ()


def test_a_secret_that_is_not_there_or_has_no_keys_is_refused(world: World) -> None:
    world.job = with_resources(world.job, secret="bucket")
    refused(world, "there is no Secret bucket in namespace vision")
    about = {"name": "bucket", "namespace": NAMESPACE}
    world.cluster.create(
        {"apiVersion": "v1", "kind": SECRET.kind, "metadata": about, "data": {"accessKeyID": "YQ=="}}, manager="tests"
    )
    refused(world, "Secret vision/bucket has no secretAccessKey")


def test_a_claim_that_is_not_there_or_takes_one_node_only_is_refused(world: World) -> None:
    world.job = with_resources(world.job, nodes=2, checkpoints=Checkpoints(claim="checkpoints"))
    refused(world, "there is no PersistentVolumeClaim checkpoints in namespace vision")
    world.cluster.create(claim("ReadWriteOnce"), manager="tests")
    refused(world, "is ReadWriteOnce: 2 nodes cannot write to it")


def test_no_image_is_refused(world: World) -> None:
    world.changes["image"] = ""
    refused(world, r"train\.resources\.image is missing")


def test_to_suspend_in_a_queue_is_refused(world: World) -> None:
    world.changes["on_cancel"] = "suspend"
    world.job = with_resources(world.job, queue="team-a")
    refused(world, "cannot act in a queue")
