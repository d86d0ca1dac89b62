"""A training as a TrainJob of Kubeflow Trainer (trainer.kubeflow.org/v1alpha1, 2.3). Pure.

https://www.kubeflow.org/docs/components/trainer/

A TrainJob says little of its pods: that stands in a TrainingRuntime. Each training has one of its own, of the same
name, so that nothing depends on what an administrator installed, and both go together.
"""

import math
from typing import Any, Final

from modelyard.errors import BadInput
from modelyard.kube.port import TRAIN_JOB, TRAINING_RUNTIME, Object
from modelyard.spec.train import TrainResources
from modelyard.training.job import ClusterJob
from modelyard.training.pod import job_metadata, pod_template
from modelyard.training.state import JobState, Phase

CONTAINER: Final = "node"
"""By which Trainer knows the one that trains; also its replicated job's name."""
PERMANENT: Final = (1, 2, 65, 78)
"""Exit codes of ours after which another try would end the same way."""


def check(resources: TrainResources) -> None:
    """Refuse what a TrainJob cannot do.

    Raises:
        BadInput: see the message.
    """
    if resources.elastic:
        raise BadInput("train.resources.elastic cannot act: a TrainJob has a fixed number of nodes",
                       do="leave it out, or let the cluster have PyTorchJob (kubeflow.org/v1)")  # fmt: skip
    if resources.ttl != TrainResources().ttl:
        raise BadInput("train.resources.ttl cannot act: a TrainJob has none; it is deleted when it is done",
                       do="leave it out, or let the cluster have PyTorchJob (kubeflow.org/v1)")  # fmt: skip


def training_runtime(job: ClusterJob) -> Object:
    """The runtime: what every pod is made of, and how often all are started again."""
    template = pod_template(job, container=CONTAINER)
    template["spec"]["restartPolicy"] = "Never"
    ours = {"containerName": CONTAINER, "operator": "In", "values": list(PERMANENT)}
    fetching = {"containerName": "fetch", "operator": "In", "values": list(PERMANENT)}
    rules = [{"action": "FailJob", "onExitCodes": codes} for codes in (ours, fetching)]
    replicated = {
        "name": CONTAINER,
        "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {"backoffLimit": 0, "podFailurePolicy": {"rules": rules}, "template": template},
        },
    }
    for_good = {"name": "permanent", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    jobset = {
        "failurePolicy": {"maxRestarts": job.resources.restarts, "rules": [for_good]},
        "replicatedJobs": [replicated],
    }
    return {
        "apiVersion": TRAINING_RUNTIME.api_version,
        "kind": TRAINING_RUNTIME.kind,
        "metadata": job_metadata(job, queue=False),
        "spec": {
            "mlPolicy": {"numNodes": job.resources.nodes, "torch": {}},
            "template": {"spec": jobset},
        },
    }


def train_job(job: ClusterJob) -> Object:
    """The job, which names its runtime.

    Raises:
        BadInput: it asks for what a TrainJob cannot do.
    """
    check(job.resources)
    spec: dict[str, Any] = {
        "runtimeRef": {"apiGroup": TRAINING_RUNTIME.group, "kind": TRAINING_RUNTIME.kind, "name": job.name},
        "trainer": {"numNodes": job.resources.nodes, "numProcPerNode": job.resources.processes_per_node},
        "suspend": job.resources.queue is not None,  # Kueue lets it begin when there is room for all
    }
    if job.resources.deadline is not None:
        spec["activeDeadlineSeconds"] = math.ceil(job.resources.deadline.seconds)
    about = {"apiVersion": TRAIN_JOB.api_version, "kind": TRAIN_JOB.kind, "metadata": job_metadata(job)}
    return {**about, "spec": spec}


def state_of(job: Object) -> JobState:
    """How far a TrainJob is, by its conditions and its child jobs."""
    status = job.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or () if each["status"] == "True"}
    for kind, phase in (
        ("Failed", Phase.FAILED), ("Complete", Phase.SUCCEEDED), ("Suspended", Phase.SUSPENDED),
    ):  # fmt: skip
        if found := conditions.get(kind):
            return JobState(phase=phase, reason=found.get("reason", ""), message=found.get("message", ""))
    if any(each.get("ready") for each in status.get("jobsStatus") or ()):
        return JobState(phase=Phase.RUNNING)
    return JobState(phase=Phase.SUSPENDED if job["spec"].get("suspend") else Phase.PENDING)
