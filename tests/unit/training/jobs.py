"""Trainings on a cluster, for tests."""

from dataclasses import replace
from typing import Any

from modelyard.spec.train import Checkpoints, Elastic, TrainResources
from modelyard.training.job import ClusterJob
from modelyard.units import Duration, Quantity

KEY = "sha256:" + "a1" * 32
SMALL = ClusterJob(
    name="digits-train-a1a1a1a1a1", namespace="vision", key=KEY, resources=TrainResources(processes_per_node=2),
    image="registry.example.com/training@sha256:" + "0" * 64, version="0.1.0", store="s3://models/digits",
)  # fmt: skip
GPUS = TrainResources(
    nodes=4, processes_per_node=8, threads_per_process=4, gpus=8, gpu_type="NVIDIA-H100-80GB-HBM3",
    cpu=Quantity("64"), memory=Quantity("512Gi"), shm=Quantity("64Gi"), queue="team-a", deadline=Duration("12h"),
    ttl=Duration("2h"), node_selector={"pool": "training"}, topology="topology.kubernetes.io/zone",
    tolerations=({"key": "dedicated", "operator": "Equal", "value": "training", "effect": "NoSchedule"},),
    checkpoints=Checkpoints(claim="checkpoints"), secret="bucket", restarts=3,
)  # fmt: skip
LARGE = replace(
    SMALL, resources=GPUS, environment={"AWS_ENDPOINT_URL": "https://s3.example.com", "AWS_REGION": "eu-central-1"}
)
SPOT = replace(
    SMALL,
    resources=TrainResources(
        nodes=2, processes_per_node=8, gpus=8, spot=True, elastic=Elastic(min_nodes=1, max_nodes=4),
        checkpoints=Checkpoints(claim="checkpoints"), service_account="trainer",
    ),
)  # fmt: skip


def with_resources(job: ClusterJob = SMALL, **changes: Any) -> ClusterJob:
    return replace(job, resources=replace(job.resources, **changes))
