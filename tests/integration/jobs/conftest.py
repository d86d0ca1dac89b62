"""PyTorchJob and TrainJob in the API server of this run."""

import pytest
from tests.cluster import build, training
from tests.cluster.fixtures import SKIPPED, Cluster


@pytest.fixture(scope="session")
def training_cluster(cluster: Cluster) -> Cluster:
    """A cluster that knows both kinds of job; no operator runs."""
    try:
        training.install(cluster.kube)
    except build.NotBuilt as reason:
        pytest.skip(f"{SKIPPED}{reason}")
    return cluster
