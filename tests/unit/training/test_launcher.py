"""The launcher over a cluster in memory: never two jobs, no line lost, each failure with its cause, nothing left."""

import ctypes
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.training_cluster import Operator, Pod, add_nodes, node
from tests.unit.training.launching import NAMESPACE, World, event, in_thread, job_in, report, with_resources

from modelyard.errors import BadInput, Forbidden, NotInstalled, StageFailed, Tampered, Unavailable
from modelyard.kube.port import PERSISTENT_VOLUME_CLAIM, POD, PYTORCH_JOB, SECRET, TRAIN_JOB, TRAINING_RUNTIME
from modelyard.processes import wait_until
from modelyard.spec.train import Checkpoints
from modelyard.training import launcher, shipping
from modelyard.training.curves import Curves
from modelyard.units import Duration


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, job_in(tmp_path / "job"))


@pytest.fixture
def wide(tmp_path: Path) -> World:
    """Three nodes over a claim."""
    made = World(tmp_path, job_in(tmp_path / "job", nodes=3))
    made.cluster.create(claim("ReadWriteMany"), manager="tests")
    return made


def claim(mode: str) -> dict[str, Any]:
    about = {"name": "checkpoints", "namespace": NAMESPACE}
    kind = PERSISTENT_VOLUME_CLAIM
    return {"apiVersion": "v1", "kind": kind.kind, "metadata": about, "spec": {"accessModes": [mode]}}


def test_it_gives_what_was_handed_in_and_leaves_the_job_to_its_time_to_live(world: World) -> None:
    trained = world.train(world.succeed)
    assert trained.digest == shipping.digest_file(world.out / "model.safetensors")
    assert [job["metadata"]["name"] for job in world.jobs()] == [world.operator.pods_made[0].removesuffix("-master-0")]


def test_called_again_it_gives_what_is_there_and_asks_no_cluster(world: World) -> None:
    trained = world.train(world.succeed)
    asked = len(world.cluster.calls)
    assert world.train() == trained
    assert len(world.cluster.calls) == asked


def test_every_line_of_every_rank_is_told_with_its_rank_and_kept_where_it_outlives_the_pod(wide: World) -> None:
    wide.train(wide.succeed)
    for rank in range(3):
        assert [line for line in wide.lines if f"[rank {rank}]" in line] == [
            f"[rank {rank}] line {number}" for number in range(3)
        ]
    kept = sorted((wide.home / "store").glob("trainings/*/logs/*.log"))
    assert len(kept) == 3
    assert all(len(file.read_text().splitlines()) == 3 for file in kept)


def test_lines_without_a_rank_have_their_pod_before_them(world: World) -> None:
    def script(pod: Pod) -> None:
        pod.begin()
        pod.write("torchrun says something")
        world.hand_in(pod)
        pod.end(0)

    world.train(script)
    assert "[master-0] torchrun says something" in world.lines


def test_64_ranks_lose_no_line_and_none_comes_twice_though_connections_break(tmp_path: Path) -> None:
    world = World(tmp_path, job_in(tmp_path / "job", nodes=64))
    world.cluster.create(claim("ReadWriteMany"), manager="tests")
    world.cluster.drop = lambda pod, line: line == 3 + len(pod) % 5 and threading.get_ident() % 2 == 0
    ready = threading.Barrier(64)

    def script(pod: Pod) -> None:
        pod.begin()
        ready.wait(60)
        pod.write(*(f"[rank {pod.index}] {number}" for number in range(50)))
        if pod.index == 0:
            world.hand_in(pod)
            ready.wait(60)  # the Master is done last, since its end is the end of all
            pod.end(0)
        else:
            pod.end(0)
            ready.wait(60)

    world.train(script)
    for rank in range(64):
        told = [line.split()[-1] for line in world.lines if line.startswith(f"[rank {rank}] ")]
        assert told == [str(number) for number in range(50)], rank


def test_a_launcher_that_died_finds_its_job_and_starts_no_other(world: World) -> None:
    """Its thread is killed while the job runs; the next one goes on from what the cluster says."""
    go = threading.Event()

    def script(pod: Pod) -> None:
        pod.begin()
        pod.write("[rank 0] before")
        assert go.wait(60)
        pod.write("[rank 0] after")
        world.hand_in(pod)
        pod.end(0)

    class Killed(BaseException):
        """As SIGKILL: nobody handles it."""

    with Operator(world.cluster, script) as operator:
        first, raised = in_thread(world.train)
        wait_until(lambda: "[rank 0] before" in world.lines, deadline_s=30, what="the first line")
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(first.ident or 0), ctypes.py_object(Killed))
        first.join(30)
        assert [type(each) for each in raised] == [Killed]
        world.lines.clear()
        second, raised = in_thread(world.train)
        wait_until(lambda: "[rank 0] before" in world.lines, deadline_s=30, what="the log from its beginning")
        go.set()
        second.join(30)
    assert raised == []
    assert operator.pods_made == ["train-digits-" + operator.pods_made[0].split("-")[2] + "-master-0"]
    assert world.lines == ["[rank 0] before", "[rank 0] after"]


def test_two_launchers_at_once_start_one_job(world: World) -> None:
    other = World(world.home, world.job, cluster=world.cluster)
    with Operator(world.cluster, world.succeed) as operator:
        threads = [in_thread(each.train) for each in (world, other)]
        for thread, _ in threads:
            thread.join(60)
    assert [raised for _, raised in threads] == [[], []]
    assert len(operator.pods_made) == 1


def test_an_answer_that_was_lost_starts_no_second_job(world: World) -> None:
    lost = [True]

    def after(call: Any) -> None:
        if call.verb == "create" and call.kind == PYTORCH_JOB and lost.pop() if lost else False:
            raise Unavailable("the answer was lost", do="ask again")

    world.cluster.after = after
    with Operator(world.cluster, world.succeed) as operator:
        with pytest.raises(Unavailable):
            world.train()
        world.train()
    assert len(operator.pods_made) == 1


def test_what_was_told_of_progress_is_step_loss_speed_and_memory_of_the_gpu(world: World) -> None:
    def script(pod: Pod) -> None:
        pod.begin()
        gib = 1 << 30
        pod.write(event("memory", node="0", gpus=[[12 * gib, 80 * gib], [30 * gib, 80 * gib]]))
        pod.write(event("step", step=1, epoch=1, loss=0.5, share=0.1, at=100.0))
        pod.write(event("step", step=3, epoch=1, loss=0.25, share=0.3, at=101.0))
        world.hand_in(pod)
        pod.end(0)

    world.train(script)
    assert "step 3, epoch 1/2, loss 0.2500, 128 samples/s, GPU 30.0/80 GiB" in world.said
    assert not any("@modelyard" in line for line in world.lines)


def test_curves_get_each_epoch_also_what_the_log_did_not_tell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(Curves, "epoch", lambda _self, told: sent.append(told["epoch"]))
    epoch = event("epoch", epoch=1, train_loss=1.0, validation_loss=None, metrics={}, lr=0.1, seconds=1.0)

    def script(pod: Pod) -> None:
        pod.begin()
        world.hand_in(pod, progress=epoch.removeprefix("@modelyard ") + "\n")
        pod.end(0)

    world.train(script)
    assert sent == [1]


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


def cancelled(world: World) -> list[BaseException]:
    """Ctrl-C while it runs."""
    thread, raised = in_thread(world.train)
    wait_until(lambda: "[rank 0] at work" in world.lines, deadline_s=30, what="the first line")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt))
    thread.join(60)
    return raised


def test_cancelled_it_deletes_the_job_and_its_pods_and_keeps_the_log(world: World) -> None:
    with Operator(world.cluster, world.waits):
        assert [type(each) for each in cancelled(world)] == [KeyboardInterrupt]
        wait_until(lambda: not world.cluster.all(POD), deadline_s=10, what="the end of the pods")
    assert world.jobs() == ()
    assert len(list((world.home / "store").glob("trainings/*/logs/*.log"))) == 1


def test_cancelled_it_suspends_where_that_was_asked_and_the_next_one_lets_it_go_on(world: World) -> None:
    world.changes["on_cancel"] = "suspend"
    turns = [world.waits, world.succeed]
    with Operator(world.cluster, lambda pod: turns[pod.start](pod)):
        assert [type(each) for each in cancelled(world)] == [KeyboardInterrupt]
        (job,) = world.jobs()
        assert job["spec"]["runPolicy"]["suspend"] is True
        wait_until(lambda: not world.cluster.all(POD), deadline_s=10, what="the end of the pods")
        world.train()
        (job,) = world.jobs()
        assert job["spec"]["runPolicy"]["suspend"] is False


def test_a_job_that_has_failed_before_is_started_again(world: World) -> None:
    def fails(pod: Pod) -> None:
        pod.begin()
        pod.end(1, message=report("ValueError: odd"))

    with pytest.raises(StageFailed):
        world.train(fails)
    world.train(world.succeed)


def test_a_job_that_somebody_deleted_is_said(world: World) -> None:
    def script(pod: Pod) -> None:
        pod.begin()
        pod.cluster.delete(PYTORCH_JOB, pod.namespace, world.jobs()[0]["metadata"]["name"])

    with pytest.raises(StageFailed, match="was deleted by somebody"):
        world.train(script)


def test_a_result_that_was_changed_on_its_way_is_refused(world: World) -> None:
    def script(pod: Pod) -> None:
        pod.begin()
        world.hand_in(pod)
        (result,) = (world.home / "store").glob("trainings/*/result/model.safetensors")
        result.write_bytes(b"other")
        pod.end(0)

    with pytest.raises(Tampered, match=r"model\.safetensors"):
        world.train(script)


# said before anything is submitted


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


def test_the_name_follows_from_what_is_trained_and_from_nothing_else(world: World, tmp_path: Path) -> None:
    moved = replace(world.job, data=str(tmp_path / "elsewhere"))
    assert shipping.key_of(moved) == shipping.key_of(world.job)
    other = replace(world.job, code_digest="sha256:" + "0" * 64)
    assert shipping.key_of(other) != shipping.key_of(world.job)
