"""A training as a PyTorchJob of Kubeflow's training-operator (kubeflow.org/v1, 1.9). Pure.

https://www.kubeflow.org/docs/components/trainer/legacy-v1/user-guides/pytorch/

One Master and nodes - 1 Workers, so that every pod gets MASTER_ADDR, and RANK, which is the *node's*; torchrun reads
the PET_* variables. An elastic one has Workers only, that meet at the first of them.
"""

import math
from typing import Any, Final

from modelyard.kube.port import PYTORCH_JOB, Object
from modelyard.training.job import ClusterJob
from modelyard.training.pod import job_metadata, pod_template
from modelyard.training.state import JobState, Phase

CONTAINER: Final = "pytorch"
"""By which the operator knows the one that trains."""
PORT: Final = 23456
"""At which ranks meet; the operator's own default."""


def pytorch_job(job: ClusterJob) -> Object:
    """The job."""
    resources = job.resources
    replicas: dict[str, Any]
    if resources.elastic:
        replicas = {"Worker": _replicas(job, resources.nodes)}
    else:
        replicas = {"Master": _replicas(job, 1)}
        if resources.nodes > 1:
            replicas["Worker"] = _replicas(job, resources.nodes - 1)
    spec: dict[str, Any] = {
        "nprocPerNode": str(resources.processes_per_node),
        "runPolicy": _run_policy(job),
        "pytorchReplicaSpecs": replicas,
    }
    if elastic := resources.elastic:
        spec["elasticPolicy"] = {
            "rdzvBackend": "c10d",
            "rdzvId": job.name,
            "minReplicas": elastic.min_nodes,
            "maxReplicas": elastic.max_nodes,
            "maxRestarts": resources.restarts,
        }
    about = {"apiVersion": PYTORCH_JOB.api_version, "kind": PYTORCH_JOB.kind, "metadata": job_metadata(job)}
    return {**about, "spec": spec}


def _replicas(job: ClusterJob, count: int) -> dict[str, Any]:
    template = pod_template(job, container=CONTAINER)
    template["spec"]["containers"][0]["ports"] = [{"name": "pytorchjob-port", "containerPort": PORT, "protocol": "TCP"}]
    # 1 to 127 end the job, 128 and above, and what has no exit code (evicted, node lost), are started again
    return {"replicas": count, "restartPolicy": "ExitCode", "template": template}


def _run_policy(job: ClusterJob) -> dict[str, Any]:
    resources = job.resources
    policy: dict[str, Any] = {
        # pods that ended stay until the job goes, with their logs; what still runs then is ended
        "cleanPodPolicy": "Running",
        # the operator does not count pods that it made anew (kubeflow/trainer #2045): the nodes count for themselves
        "backoffLimit": resources.restarts,
        "ttlSecondsAfterFinished": math.ceil(resources.ttl.seconds),
        # Kueue lets it begin when there is room for all
        "suspend": resources.queue is not None,
        # acts where the operator was started with a gang scheduler (Volcano, scheduler-plugins)
        "schedulingPolicy": {"minAvailable": resources.elastic.min_nodes if resources.elastic else resources.nodes},
    }
    if resources.deadline is not None:
        policy["activeDeadlineSeconds"] = math.ceil(resources.deadline.seconds)
    return policy


def state_of(job: Object) -> JobState:
    """How far a PyTorchJob is, by its conditions."""
    conditions = {
        each["type"]: each for each in job.get("status", {}).get("conditions") or () if each["status"] == "True"
    }
    for kind, phase in (
        ("Failed", Phase.FAILED), ("Succeeded", Phase.SUCCEEDED), ("Suspended", Phase.SUSPENDED),
        ("Running", Phase.RUNNING), ("Restarting", Phase.PENDING), ("Created", Phase.PENDING),
    ):  # fmt: skip
        if found := conditions.get(kind):
            return JobState(phase=phase, reason=found.get("reason", ""), message=found.get("message", ""))
    suspended = job["spec"]["runPolicy"].get("suspend", False)
    return JobState(phase=Phase.SUSPENDED if suspended else Phase.PENDING)
