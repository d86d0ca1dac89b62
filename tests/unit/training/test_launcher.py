"""The launcher over a cluster in memory: never two jobs, no line lost, nothing left."""

import ctypes
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.training_cluster import Operator, Pod
from tests.unit.training.launching import (
    World,
    claim,
    event,
    in_thread,
    job_in,
    report,
)

from modelyard.errors import StageFailed, Tampered, Unavailable
from modelyard.kube.port import POD, PYTORCH_JOB
from modelyard.processes import wait_until
from modelyard.training import shipping
from modelyard.training.curves import Curves


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


def test_the_name_follows_from_what_is_trained_and_from_nothing_else(world: World, tmp_path: Path) -> None:
    moved = replace(world.job, data=str(tmp_path / "elsewhere"))
    assert shipping.key_of(moved) == shipping.key_of(world.job)
    other = replace(world.job, code_digest="sha256:" + "0" * 64)
    assert shipping.key_of(other) != shipping.key_of(world.job)
