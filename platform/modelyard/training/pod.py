"""The pod of one node of a training: an init container that fetches and verifies, torchrun inside. Pure.

PyTorchJob and TrainJob wrap this same template; each names the container by which its operator knows it.
"""

from collections.abc import Mapping
from typing import Any, Final

from modelyard.kube import metadata
from modelyard.kube.metadata import fit
from modelyard.kube.pods import RESTRICTED, RESTRICTED_POD, bucket_credentials, mount
from modelyard.training.job import ClusterJob

TRAINING_LABEL: Final = "modelyard.dev/training"
"""On the job and its pods: its name."""
KEY_ANNOTATION: Final = "modelyard.dev/key"
"""On the job: the digest of what it trains."""
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
GPU: Final = "nvidia.com/gpu"
FETCH: Final = "fetch"
"""The init container that fetches and verifies."""
OTHER_VERSION: Final = 78
"""The exit code by which that container refuses to work with another Modelyard."""
JOB, OUT, CHECKPOINTS = "/training/job", "/training/out", "/checkpoints"
"""What is trained, where ranks write, and where a claim is mounted."""
GRACE_S: Final = 120
"""Between SIGTERM and SIGKILL: the ranks save a checkpoint. Clouds take a spot node away after 30 to 120 s."""
SPOT: Final = (
    ("karpenter.sh/capacity-type", "spot"), ("cloud.google.com/gke-spot", "true"),
    ("eks.amazonaws.com/capacityType", "SPOT"), ("kubernetes.azure.com/scalesetpriority", "spot"),
)  # fmt: skip
"""Labels, which are also taints where a cloud taints them, of nodes that may be taken away."""


def labels(job: ClusterJob) -> dict[str, str]:
    """Of every object of a training, by Kubernetes' recommendation and to find them again."""
    return {
        metadata.NAME: "modelyard",
        metadata.INSTANCE: fit(job.name),
        metadata.COMPONENT: "training",
        metadata.PART_OF: "modelyard",
        metadata.MANAGED_BY: "modelyard",
        TRAINING_LABEL: fit(job.name),
    }


def job_metadata(job: ClusterJob, *, queue: bool = True) -> dict[str, Any]:
    """Of the job: Kueue finds its queue in a label."""
    queued = {QUEUE_LABEL: job.resources.queue} if queue and job.resources.queue else {}
    return {
        "name": job.name,
        "namespace": job.namespace,
        "labels": labels(job) | queued,
        "annotations": {KEY_ANNOTATION: job.key},
    }


def pod_template(job: ClusterJob, *, container: str) -> dict[str, Any]:
    """The template of every node's pod; `container` is what the operator calls the one that trains."""
    resources = job.resources
    spec: dict[str, Any] = {
        "securityContext": dict(RESTRICTED_POD),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "initContainers": [_fetch(job)],
        "containers": [_trainer(job, container)],
        "volumes": _volumes(job),
    }
    if resources.service_account:
        spec["serviceAccountName"] = resources.service_account
    if selector := _node_selector(job):
        spec["nodeSelector"] = selector
    if tolerations := _tolerations(job):
        spec["tolerations"] = tolerations
    if affinity := _affinity(job):
        spec["affinity"] = affinity
    annotations = {"kubectl.kubernetes.io/default-container": container}
    return {"metadata": {"labels": labels(job), "annotations": annotations}, "spec": spec}


def _fetch(job: ClusterJob) -> dict[str, Any]:
    """Fetch and verify job, code and the record of the data, so that changed code needs no new image."""
    return {
        "name": FETCH,
        "image": job.image,
        "command": ["python", "-m", "modelyard.training.fetch"],
        "args": [
            f"--store={job.store}", f"--training={job.name}", f"--digest={job.key}", f"--modelyard={job.version}",
            f"--into={JOB}",
        ],
        "env": _environment(job),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": dict(RESTRICTED),
        "volumeMounts": [mount("work", "/training"), mount("tmp", "/tmp")],  # noqa: S108
    }  # fmt: skip


def _trainer(job: ClusterJob, name: str) -> dict[str, Any]:
    claimed = job.resources.checkpoints.claim is not None
    mounts = [mount("work", "/training"), mount("tmp", "/tmp"), mount("shm", "/dev/shm")]  # noqa: S108
    if claimed:
        mounts.append({**mount("checkpoints", CHECKPOINTS), "subPath": job.name})
    return {
        "name": name,
        "image": job.image,
        "command": ["python", "-m", "modelyard.training.node"],
        "args": [
            f"--store={job.store}", f"--training={job.name}", f"--attempt={job.attempt}", f"--job={JOB}",
            f"--out={OUT}",
            *([f"--checkpoints={CHECKPOINTS}"] if claimed else []),
        ],
        "env": _environment(job) + _network(job),
        "resources": _amounts(job),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": dict(RESTRICTED),
        "volumeMounts": mounts,
    }  # fmt: skip


def _environment(job: ClusterJob) -> list[dict[str, Any]]:
    plain = {"HOME": "/training", "TMPDIR": "/tmp", **job.environment}  # noqa: S108
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in sorted(plain.items())]
    return found + (bucket_credentials(job.resources.secret) if job.resources.secret else [])


def _network(job: ClusterJob) -> list[dict[str, Any]]:
    """Ranks meet on the pod's network: NCCL between GPUs, gloo between CPUs and for checkpoints."""
    threads = str(job.resources.threads_per_process)
    found = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "GLOO_SOCKET_IFNAME": "eth0"}
    if job.resources.gpus:
        found |= {"NCCL_SOCKET_IFNAME": "eth0", "NCCL_DEBUG": "WARN"}
    return [{"name": name, "value": value} for name, value in sorted(found.items())]


def _amounts(job: ClusterJob) -> dict[str, Any]:
    resources, requests, limits = job.resources, {}, {}
    requests["cpu"] = str(resources.cpu or resources.processes_per_node * resources.threads_per_process)
    if resources.memory:
        requests["memory"] = limits["memory"] = str(resources.memory)
    if resources.gpus:
        limits[GPU] = str(resources.gpus)
    return {"requests": requests, **({"limits": limits} if limits else {})}


def _volumes(job: ClusterJob) -> list[dict[str, Any]]:
    shm: dict[str, Any] = {"medium": "Memory"}
    if job.resources.shm:
        shm["sizeLimit"] = str(job.resources.shm)
    found: list[dict[str, Any]] = [
        {"name": "work", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        # the default of 64 MiB is too small for loaders of batches (kubeflow/pipelines #9893)
        {"name": "shm", "emptyDir": shm},
    ]
    if claim := job.resources.checkpoints.claim:
        found.append({"name": "checkpoints", "persistentVolumeClaim": {"claimName": claim}})
    return found


def _node_selector(job: ClusterJob) -> dict[str, str]:
    typed = {job.gpu_label: job.resources.gpu_type} if job.resources.gpu_type else {}
    return {**job.resources.node_selector, **typed}


def _tolerations(job: ClusterJob) -> list[Mapping[str, Any]]:
    tainted = [{"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} for key, value in SPOT]
    drivers = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if job.resources.gpus else []
    return [*map(dict, job.resources.tolerations), *drivers, *(tainted if job.resources.spot else [])]


def _affinity(job: ClusterJob) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if job.resources.spot:
        terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]} for key, value in SPOT]
        found["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    if job.resources.topology:
        near = {
            "topologyKey": job.resources.topology,
            "labelSelector": {"matchLabels": {TRAINING_LABEL: fit(job.name)}},
        }
        found["podAffinity"] = {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": near}]
        }
    return found
