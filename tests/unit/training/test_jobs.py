"""What a training on a cluster is made of: whole objects as golden files, and what must hold in each."""

import json
import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.unit.training.jobs import GPUS, LARGE, SMALL, SPOT, with_resources

from modelyard.errors import BadInput
from modelyard.spec.train import TrainResources
from modelyard.training import pytorchjob, trainjob
from modelyard.training.job import ClusterJob
from modelyard.training.state import Phase
from modelyard.units import Duration

GOLDEN = Path(__file__).parents[2] / "golden" / "jobs"
RENDERED = {
    "pytorchjob-small": lambda: [pytorchjob.pytorch_job(SMALL)],
    "pytorchjob-large": lambda: [pytorchjob.pytorch_job(LARGE)],
    "pytorchjob-spot": lambda: [pytorchjob.pytorch_job(SPOT)],
    "trainjob-small": lambda: [trainjob.training_runtime(SMALL), trainjob.train_job(SMALL)],
    "trainjob-large": lambda: [
        trainjob.training_runtime(with_resources(LARGE, ttl=TrainResources().ttl)),
        trainjob.train_job(with_resources(LARGE, ttl=TrainResources().ttl)),
    ],
}


@pytest.mark.parametrize("name", RENDERED)
def test_a_job_is_rendered_as_its_golden_file_says(name: str) -> None:
    """Run with MODELYARD_GOLDEN=write to change them."""
    rendered = yaml.safe_dump_all(json.loads(json.dumps(RENDERED[name]())), sort_keys=True, width=110)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("MODELYARD_GOLDEN") == "write":
        file.write_text(rendered)
    assert rendered == file.read_text()


def templates(job: ClusterJob) -> list[dict[str, Any]]:
    """The pod's template in every kind of job."""
    replicas = pytorchjob.pytorch_job(job)["spec"]["pytorchReplicaSpecs"]
    jobset = trainjob.training_runtime(job)["spec"]["template"]["spec"]["replicatedJobs"]
    return [each["template"] for each in replicas.values()] + [each["template"]["spec"]["template"] for each in jobset]


@pytest.mark.parametrize("job", [SMALL, LARGE, SPOT], ids=["small", "large", "spot"])
def test_the_pods_are_what_kubernetes_knows(job: ClusterJob) -> None:
    for template in templates(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": template["spec"]}
        kubernetes_validate.validate(json.loads(json.dumps(pod)), "1.36", strict=True)


@pytest.mark.parametrize("job", [SMALL, LARGE, SPOT], ids=["small", "large", "spot"])
def test_every_container_is_restricted_and_only_a_secret_has_credentials(job: ClusterJob) -> None:
    for template in templates(job):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["automountServiceAccountToken"] is False
        for container in (*spec["initContainers"], *spec["containers"]):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            keys = [each for each in container["env"] if "KEY" in each["name"]]
            assert all("secretKeyRef" in each["valueFrom"] for each in keys)
            assert len(keys) == (2 if job.resources.secret else 0)


def test_code_is_fetched_and_verified_before_anything_trains() -> None:
    for template in templates(SMALL):
        (fetch,) = template["spec"]["initContainers"]
        assert f"--digest={SMALL.key}" in fetch["args"]
        assert f"--modelyard={SMALL.version}" in fetch["args"]


def test_loader_workers_have_the_memory_that_they_share() -> None:
    """kubeflow/pipelines #9893: the 64 MiB of /dev/shm are too small for data-loader workers."""
    for template in templates(SMALL):
        mounts = template["spec"]["containers"][0]["volumeMounts"]
        assert {"name": "shm", "mountPath": "/dev/shm"} in mounts
        shm = next(each for each in template["spec"]["volumes"] if each["name"] == "shm")
        assert shm["emptyDir"]["medium"] == "Memory"


def test_a_job_of_several_nodes_has_one_master_and_the_rest_are_workers() -> None:
    replicas = pytorchjob.pytorch_job(LARGE)["spec"]["pytorchReplicaSpecs"]
    assert {name: each["replicas"] for name, each in replicas.items()} == {"Master": 1, "Worker": 3}


def test_in_a_queue_a_job_waits_until_all_its_nodes_have_room() -> None:
    for job in (pytorchjob.pytorch_job(LARGE), trainjob.train_job(with_resources(LARGE, ttl=TrainResources().ttl))):
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
        assert (job["spec"].get("runPolicy") or job["spec"])["suspend"] is True
    assert pytorchjob.pytorch_job(SMALL)["spec"]["runPolicy"]["suspend"] is False


def test_what_would_fail_again_ends_the_job_and_a_kill_does_not() -> None:
    """kubeflow/trainer #2045: the operator does not count what it made anew; exit codes say what is in vain."""
    assert pytorchjob.pytorch_job(SMALL)["spec"]["pytorchReplicaSpecs"]["Master"]["restartPolicy"] == "ExitCode"
    jobset = trainjob.training_runtime(SMALL)["spec"]["template"]["spec"]
    rules = jobset["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert all(max(rule["onExitCodes"]["values"]) < 128 for rule in rules)
    assert jobset["failurePolicy"]["maxRestarts"] == SMALL.resources.restarts


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"elastic": SPOT.resources.elastic}, "elastic"), ({"ttl": Duration("1h")}, "ttl")],
    ids=["another number of nodes", "a time to live"],
)
def test_what_a_trainjob_cannot_do_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(BadInput, match=what):
        trainjob.train_job(with_resources(**changes))


def test_a_deadline_acts_in_both() -> None:
    job = with_resources(deadline=Duration("90m"))
    assert pytorchjob.pytorch_job(job)["spec"]["runPolicy"]["activeDeadlineSeconds"] == 5400
    assert trainjob.train_job(job)["spec"]["activeDeadlineSeconds"] == 5400


def conditioned(build: Any, *conditions: str, **status: Any) -> Any:
    told = [{"type": each, "status": "True", "reason": f"{each}Reason", "message": "m"} for each in conditions]
    return {**build(SMALL), "status": {"conditions": told, **status}}


@pytest.mark.parametrize(
    ("conditions", "phase"),
    [
        ((), Phase.PENDING),
        (("Created",), Phase.PENDING),
        (("Created", "Running"), Phase.RUNNING),
        (("Created", "Restarting"), Phase.PENDING),
        (("Created", "Suspended"), Phase.SUSPENDED),
        (("Created", "Running", "Succeeded"), Phase.SUCCEEDED),
        (("Created", "Restarting", "Failed"), Phase.FAILED),
    ],
    ids=["nothing said", "created", "running", "restarting", "suspended", "succeeded", "failed while restarting"],
)
def test_a_pytorchjob_is_read_by_its_conditions(conditions: tuple[str, ...], phase: Phase) -> None:
    """kubeflow/trainer #2044: a job hangs in Restarting, though it failed."""
    assert pytorchjob.state_of(conditioned(pytorchjob.pytorch_job, *conditions)).phase is phase


def test_a_trainjob_is_read_by_its_conditions_and_child_jobs() -> None:
    job = trainjob.train_job
    assert trainjob.state_of(job(SMALL)).phase is Phase.PENDING
    assert trainjob.state_of(conditioned(job, jobsStatus=[{"name": "node", "ready": 1}])).phase is Phase.RUNNING
    assert trainjob.state_of(conditioned(job, "Complete")).phase is Phase.SUCCEEDED
    assert trainjob.state_of(conditioned(job, "Failed")).reason == "FailedReason"
    assert trainjob.state_of(conditioned(job, "Suspended")).phase is Phase.SUSPENDED


def test_large_asks_for_everything_a_file_can_say() -> None:
    """What a field says stands somewhere in the job: none is lost on the way."""
    text = json.dumps(pytorchjob.pytorch_job(LARGE))
    for said in (GPUS.gpu_type, "512Gi", "64Gi", '"64"', "team-a", '"pool"', "dedicated", "claimName", "bucket",
                 "topology.kubernetes.io/zone", "43200", "7200"):  # fmt: skip
        assert said is not None
        assert said in text, said
