"""The whole way of a training on a cluster, but for kubelet: real init containers, torchrun and ranks as processes."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.local_pods import LocalPods
from tests.fakes.training_cluster import Operator, TrainingCluster
from tests.fakes.trainings import RECIPE, job_of, small_data, with_resources

from modelyard.errors import BadInput, Tampered
from modelyard.kube.port import PERSISTENT_VOLUME_CLAIM
from modelyard.spec.train import Checkpoints
from modelyard.training.job import TrainedModel, TrainJob
from modelyard.training.launcher import train_on_kubernetes
from modelyard.training.submit import Launch
from modelyard.training.train import train

pytestmark = pytest.mark.process
nightly = pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="make nightly: minutes of CPU")


class Place:
    """A cluster of this machine's processes."""

    def __init__(self, home: Path) -> None:
        self.home, self.cluster = home, TrainingCluster()
        self.said: list[str] = []
        self.lines: list[str] = []

    def train(self, job: TrainJob, pods: LocalPods) -> TrainedModel:
        launch = Launch(name="small", namespace="vision", store=str(self.home / "store"), image="training:1")
        with Operator(self.cluster, pods) as self.operator:
            return train_on_kubernetes(
                job, self.cluster, launch, out=self.home / "out", log=self.lines.append,
                progress=lambda message, _share: self.said.append(message),
            )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    data = small_data(tmp_path_factory.mktemp("data"))
    made = job_of(data, tmp_path_factory.mktemp("job"), epochs=2, checkpoint_every=5)
    return with_resources(made, processes_per_node=2)


@pytest.fixture(scope="module")
def laptop(job: TrainJob, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Path]:
    """The same training on this machine."""
    out = tmp_path_factory.mktemp("laptop")
    return train(job, out=out), out


def same(there: TrainedModel, out: Path, laptop: tuple[TrainedModel, Path]) -> None:
    here, folder = laptop
    assert there.digest == here.digest
    assert [one.train_loss for one in there.epochs] == [one.train_loss for one in here.epochs]
    names = [sorted(path.name for path in (where / "model").iterdir()) for where in (out, folder)]
    assert names[0] == names[1]


@nightly
def test_two_nodes_give_the_bits_of_two_processes_of_a_laptop(
    job: TrainJob, laptop: tuple[TrainedModel, Path], place: Place
) -> None:
    about = {"name": "checkpoints", "namespace": "vision"}
    claim: dict[str, Any] = {"apiVersion": "v1", "kind": PERSISTENT_VOLUME_CLAIM.kind, "metadata": about}
    place.cluster.create({**claim, "spec": {"accessModes": ["ReadWriteMany"]}}, manager="tests")
    wide = with_resources(job, nodes=2, processes_per_node=1, checkpoints=Checkpoints(claim="checkpoints"))
    there = place.train(wide, LocalPods(place.home / "pods", processes=1, nodes=2))
    same(there, place.home / "out", laptop)
    assert any("epoch 2/2" in one for one in place.said), place.said
    assert (place.home / "pods" / "checkpoints").is_dir()


def test_a_node_that_is_killed_goes_on_from_the_checkpoint_in_the_store_with_the_same_bits(
    job: TrainJob, laptop: tuple[TrainedModel, Path], place: Place
) -> None:
    def kill(pods: LocalPods, name: str, line: str) -> None:
        if '"event": "kept"' in line and len(place.operator.pods_made) == 1:
            os.killpg(pods.running[name].pid, signal.SIGKILL)

    there = place.train(job, LocalPods(place.home / "pods", processes=2, seen=kill))
    same(there, place.home / "out", laptop)
    assert there.restarts == 1
    assert any("going on from step" in one for one in place.said), place.said
    assert any("Killed: " in one for one in place.said), place.said


@nightly
def test_user_code_that_raises_ends_the_job_with_its_line(job: TrainJob, place: Place, tmp_path: Path) -> None:
    source = (
        RECIPE
        + "\n\nclass Bad(Recipe):\n    def loss(self, outputs, batch):\n        raise ZeroDivisionError('no luck')\n"
    )
    bad = job_of(Path(job.data), tmp_path / "bad", source=source, use="recipe.py:Bad")
    with pytest.raises(BadInput, match=r"UserCode: rank 0 of .* raised ZeroDivisionError: no luck \(recipe\.py, line"):
        place.train(bad, LocalPods(place.home / "pods", processes=1))
    assert any("recipe.py" in line for line in place.lines), place.lines
    assert len(place.operator.pods_made) == 1


def test_code_that_was_changed_in_the_store_is_never_run(job: TrainJob, place: Place) -> None:
    class Meddler(LocalPods):
        def __call__(self, pod: Any) -> None:
            (archive,) = (place.home / "store" / "code").iterdir()
            archive.write_bytes(archive.read_bytes() + b"\0" * 512)
            super().__call__(pod)

    with pytest.raises(Tampered, match=r"\.tar in .* has digest"):
        place.train(job, Meddler(place.home / "pods", processes=2))
