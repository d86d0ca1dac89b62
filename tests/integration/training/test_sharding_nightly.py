"""Each strategy is the training of one process; any rank killed at any step, gone on with by as many or by others."""

import os
import shutil
import signal

import pytest
from tests.fakes.language import language_job, text_data
from tests.fakes.trainings import train_here, with_resources, with_train
from tests.integration.training.running import finished

from modelyard.spec.train import TrainStrategy

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="make nightly: minutes of CPU"),
]

COMPILING_S = 600.0
FSDP2 = TrainStrategy(type="FSDP2")
STRATEGIES = {
    "DDP on 2": (TrainStrategy(), 2, {}),
    "DDP on 3, which do not divide the batch": (TrainStrategy(), 3, {}),
    "DDP on 2 in passes of 3 examples": (TrainStrategy(), 2, {"batch_size": 3}),
    "DDP compiled": (TrainStrategy(compile=True), 2, {}),
    "DDP, blocks computed again": (TrainStrategy(activation_checkpointing=True), 2, {}),
    "FSDP2 on 2": (FSDP2, 2, {}),
    "FSDP2 on 4 in passes of 2 examples": (FSDP2, 4, {"batch_size": 2}),
    "FSDP2 compiled, blocks computed again": (
        TrainStrategy(type="FSDP2", compile=True, activation_checkpointing=True), 2, {},
    ),
    "tensor parallel on 2": (TrainStrategy(type="FSDP2", tensor_parallel=2), 2, {}),
    "2 x 2, blocks computed again": (
        TrainStrategy(type="FSDP2", tensor_parallel=2, activation_checkpointing=True), 4, {},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The training in one process: its job and its curves."""
    work = tmp_path_factory.mktemp("alone")
    job = language_job(text_data(work), work, layers=2)
    trained = train_here(with_train(job, checkpoint_every=50), work)[1]
    assert trained.steps == 50
    return job, [value for curve in trained.epochs for value in (curve.train_loss, curve.validation_loss)]


def furthest(out, expected):
    """How far the losses of a run are from the expected ones."""
    seen = [value for epoch in finished(out)["epochs"] for value in (epoch["trainLoss"], epoch["validationLoss"])]
    assert len(seen) == len(expected)
    return max(abs(a - b) for a, b in zip(seen, expected, strict=True))


@pytest.mark.parametrize("case", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_a_strategy_is_the_training_of_one_process(alone, start, tmp_path, case):
    (job, expected), (strategy, processes, changes) = alone, case
    job = with_resources(with_train(job, strategy=strategy, **changes), processes_per_node=processes)
    assert start(job, tmp_path).until_ended(deadline_s=COMPILING_S) == {}
    assert furthest(tmp_path, expected) < 1e-5


KILLED = {
    "DDP": (TrainStrategy(), 4, (1, 2, 3)),
    "FSDP2": (FSDP2, 4, (1, 2)),
    "2 x 2": (TrainStrategy(type="FSDP2", tensor_parallel=2), 4, (2,)),
}


@pytest.mark.parametrize("beside", [False, True], ids=["checkpoints while it waits", "checkpoints beside it"])
@pytest.mark.parametrize("case", KILLED.values(), ids=KILLED.keys())
def test_any_rank_killed_at_any_step(alone, start, tmp_path, case, beside):
    """The same bits on as many processes; within 1e-5 over 50 steps on others."""
    (job, expected), (strategy, processes, others) = alone, case
    job = with_resources(with_train(job, strategy=strategy, async_checkpoints=beside), processes_per_node=processes)
    assert start(job, tmp_path / "unbroken").until_ended() == {}
    digest = finished(tmp_path / "unbroken")["digest"]
    for rank, step in enumerate((1, 12, 33, 48)):
        out = tmp_path / f"killed-{rank}-{step}"
        running = start(job, out)
        running.until_step(step)
        os.kill(running.ranks()[rank].pid, signal.SIGKILL)
        running.until_ended()
        for number in others:
            shutil.copytree(out, tmp_path / f"{out.name}-{number}")
        assert start(job, out).until_ended() == {}
        assert finished(out)["digest"] == digest
        for number in others:
            other = tmp_path / f"{out.name}-{number}"
            assert start(with_resources(job, processes_per_node=number), other).until_ended() == {}
            assert furthest(other, expected) < 1e-5, (rank, step, number)
