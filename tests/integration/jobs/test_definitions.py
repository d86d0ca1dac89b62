"""Our jobs against the definitions that clusters have, in a real API server: strict, so that no field is dropped."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from tests.cluster.fixtures import Cluster
from tests.unit.training.jobs import LARGE, SMALL, SPOT, with_resources

from modelyard.errors import Refused
from modelyard.kube.port import Kube
from modelyard.spec.train import TrainResources
from modelyard.training import pytorchjob, trainjob
from modelyard.training.job import ClusterJob

pytestmark = pytest.mark.process
FOR_TRAINJOB = with_resources(LARGE, ttl=TrainResources().ttl)


def taken(kube: Kube, thing: Mapping[str, Any]) -> Any:
    return kube.create(thing, manager="tests")


@pytest.mark.parametrize("job", [SMALL, LARGE, SPOT], ids=["small", "large", "spot"])
def test_a_pytorchjob_is_taken_whole(job: ClusterJob, training_cluster: Cluster, namespace: str) -> None:
    ours = pytorchjob.pytorch_job(replace(job, namespace=namespace))
    made = taken(training_cluster.kube, ours)
    assert made["spec"]["runPolicy"] == ours["spec"]["runPolicy"]
    assert made["spec"]["pytorchReplicaSpecs"] == ours["spec"]["pytorchReplicaSpecs"]


@pytest.mark.parametrize("job", [SMALL, FOR_TRAINJOB], ids=["small", "large"])
def test_a_trainjob_and_its_runtime_are_taken_whole(job: ClusterJob, training_cluster: Cluster, namespace: str) -> None:
    here = replace(job, namespace=namespace)
    runtime = taken(training_cluster.kube, trainjob.training_runtime(here))
    made = taken(training_cluster.kube, trainjob.train_job(here))
    assert made["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert made["spec"]["trainer"] == {
        "numNodes": job.resources.nodes, "numProcPerNode": job.resources.processes_per_node,
    }  # fmt: skip


def test_a_field_that_they_do_not_know_would_be_refused(training_cluster: Cluster, namespace: str) -> None:
    """So the tests above can fail."""
    job: Any = deepcopy(pytorchjob.pytorch_job(replace(SMALL, namespace=namespace)))
    job["spec"]["runPolicy"]["ttl"] = 1
    with pytest.raises(Refused, match=r'unknown field "spec\.runPolicy\.ttl"'):
        taken(training_cluster.kube, job)
