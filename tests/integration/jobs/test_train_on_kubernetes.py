"""The whole way of a training on a cluster, but for kubelet: real init containers, torchrun and ranks as processes."""

from pathlib import Path

import pytest
from tests.fakes.local_pods import LocalPods
from tests.fakes.training_cluster import Operator, TrainingCluster
from tests.fakes.trainings import job_of, small_data, with_resources

from modelyard.training.job import TrainJob
from modelyard.training.launcher import Launch, train_on_kubernetes
from modelyard.training.train import train

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    data = small_data(tmp_path_factory.mktemp("data"))
    made = job_of(data, tmp_path_factory.mktemp("job"), epochs=2, checkpoint_every=5)
    return with_resources(made, processes_per_node=2)


def launch(store: Path, **changes: object) -> Launch:
    return Launch(name="small", namespace="vision", store=str(store), image="training:1", **changes)  # type: ignore[arg-type]


def test_a_cluster_gives_the_bits_of_a_laptop(job: TrainJob, tmp_path: Path) -> None:
    cluster, said, lines = TrainingCluster(), [], []

    def say(message: str, _share: float | None) -> None:
        said.append(message)

    with Operator(cluster, LocalPods(tmp_path / "pods", processes=2)):
        there = train_on_kubernetes(
            job, cluster, launch(tmp_path / "store"), out=tmp_path / "there", progress=say, log=lines.append
        )
    here = train(job, out=tmp_path / "here")
    assert there.digest == here.digest
    assert [one.train_loss for one in there.epochs] == [one.train_loss for one in here.epochs]
    assert (tmp_path / "there" / "model" / "model.json").exists() == (
        tmp_path / "here" / "model" / "model.json"
    ).exists()
    assert any("epoch 2/2" in one for one in said), said
