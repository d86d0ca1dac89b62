"""What the launcher makes of a training that goes wrong: each failure with its cause, said in one sentence."""

import threading
from typing import Any

import pytest
from tests.fakes.training_cluster import Pod
from tests.unit.training.launching import (
    World,
    report,
    with_resources,
)

from modelyard.errors import BadInput, StageFailed, Tampered
from modelyard.kube.port import POD
from modelyard.processes import wait_until
from modelyard.training import launcher
from modelyard.units import Duration


def test_a_pod_that_was_preempted_is_made_anew_and_said_so(world: World) -> None:
    def script(pod: Pod) -> None:
        if pod.start:
            world.succeed(pod)
            return
        pod.begin()
        target = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "urgent"}
        pod.end(143, message=report("The node was told to stop", rank=-1), conditions=[target])

    trained = world.train(script)
    assert trained.restarts == 1
    assert world.operator.pods_made[0] == world.operator.pods_made[1]


@pytest.mark.parametrize(
    ("code", "message", "error", "said"),
    [
        (1, report("ValueError: odd", trace='File "recipe.py", line 3, in loss'), StageFailed, "UserCode: rank 0 of"),
        (2, report("recipe.py has no class Recipe", kind="RecipeError", do="name it"), BadInput, "BadInput: rank 0 of"),
        (2, report("Shard train-0 is gone", kind="BadInput"), BadInput, "DataError: rank 0 of"),
        (1, report("CUDA out of memory. Tried to allocate 2 GiB"), StageFailed, "CudaOutOfMemory: rank 0 of"),
        (1, report("This node was started 3 times and never finished", rank=-1), StageFailed, "StartedTooOften"),
        (1, "Segmentation fault", StageFailed, "ended with 1: Segmentation fault"),
    ],
    ids=["user code", "bad recipe", "data", "CUDA out of memory", "too often", "no report"],
)
def test_a_failure_is_said_in_one_sentence(
    world: World, code: int, message: str, error: type[Exception], said: str
) -> None:
    def script(pod: Pod) -> None:
        pod.begin()
        pod.end(code, message=message)

    with pytest.raises(error, match=said) as raised:
        world.train(script)
    assert "logs" in str(raised.value)


def test_the_traceback_of_the_first_rank_stands_in_the_log(world: World) -> None:
    def script(pod: Pod) -> None:
        pod.begin()
        pod.end(1, message=report("ValueError: odd", trace='  File "recipe.py", line 3, in loss'))

    with pytest.raises(StageFailed):
        world.train(script)
    assert any('File "recipe.py", line 3, in loss' in line for line in world.lines)


def test_what_the_init_container_found_ends_the_job_that_the_operator_would_start_for_ever(world: World) -> None:
    """ExitCode knows no code of a pod whose main container never began: it makes it anew, again and again."""
    message = report("the job has digest sha256:b", kind="Tampered", rank=-1, do="find out who changed the store")
    with pytest.raises(Tampered, match="has digest sha256:b"):
        world.train(lambda pod: pod.end(65, message=message, container="fetch"))
    assert world.jobs() == ()


def test_another_version_in_the_image_is_named(world: World) -> None:
    told = report("the image has Modelyard 0.0.1, the training was started by 0.1.0", kind="BadInput", rank=-1)
    with pytest.raises(BadInput, match=r"OtherVersion: .* the image has Modelyard 0\.0\.1"):
        world.train(lambda pod: pod.end(78, message=told, container="fetch"))


def test_an_image_without_modelyard_is_named(world: World) -> None:
    told = "/usr/bin/python: Error while finding module specification (No module named 'modelyard')"
    with pytest.raises(StageFailed, match="the image training:1 has no Modelyard in it"):
        world.train(lambda pod: pod.end(1, message=told, container="fetch"))


def test_an_image_that_cannot_be_pulled_is_waited_for_and_then_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "BEGIN_S", 0.0)
    with pytest.raises(StageFailed, match=r"ImageNotUsable: the image training:1 cannot be pulled .*: not found"):
        world.train(lambda pod: pod.wait("ImagePullBackOff", "not found"))
    assert world.jobs() == ()


def test_why_pods_find_no_place_is_said_and_after_a_while_it_is_the_end(world: World) -> None:
    world.changes["patience_s"] = 0.3
    told = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu."
    nowhere = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": told}
    with pytest.raises(StageFailed, match="finds no place: 0/5 nodes are available: 5 Insufficient"):
        world.train(lambda pod: pod.status(phase="Pending", conditions=[nowhere]))
    assert any("Insufficient nvidia.com/gpu" in said for said in world.said)


def test_a_training_that_does_not_move_is_ended_with_the_rank_that_fell_silent(wide: World) -> None:
    wide.job = with_resources(wide.job, stall_timeout=Duration("1s"))
    turn = threading.Event()

    def script(pod: Pod) -> None:
        pod.begin()
        if pod.index == 1:
            pod.write("[rank 1] last word")
            turn.set()
        else:
            turn.wait(30)
            for number in range(9):
                pod.write(f"[rank {pod.index}] waiting {number}")
        wait_until(lambda: pod.gone, deadline_s=60, what="its end")

    with pytest.raises(StageFailed, match=r"Stalled: nothing happened for 1 s.*rank 1 has been silent"):
        wide.train(script)
    assert wide.jobs() == ()


def test_a_deadline_that_passed_is_said(world: World) -> None:
    world.job = with_resources(world.job, deadline=Duration("1h"))

    def script(pod: Pod) -> None:
        pod.begin()
        pod.cluster.delete(POD, pod.namespace, pod.name)
        found: Any = world.jobs()[0]
        told = {
            "type": "Failed",
            "status": "True",
            "reason": "PyTorchJobFailed",
            "message": "longer than specified deadline",
        }
        found["status"] = {"conditions": [told]}
        world.cluster.replace(found, manager="operator", subresource="status")

    with pytest.raises(StageFailed, match="DeadlineExceeded: it ran longer than 1h"):
        world.train(script)
