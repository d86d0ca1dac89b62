"""The whole yard with real parts: MLflow, Envoy, TorchServe and the loop, as a person would use them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.fakes.small_model import NAME, request_of, small_package

from modelyard.errors import BadInput, Unavailable
from modelyard.processes import wait_until
from modelyard.registry.port import Candidate
from modelyard.rollout.laptop.records import FileRecords
from modelyard.rollout.laptop.yard import Yard, down, running, up
from modelyard.spec.codec import to_json
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment, ModelRef
from modelyard.spec.metadata import Metadata

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.xdist_group("yard")]
KEY = f"default/{NAME}"
HEADERS = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a version that lives."""
    folder = tmp_path_factory.mktemp("yard")
    home = folder / "home"
    try:
        yard = up(home)
        from modelyard.registry.mlflow import MLflowRegistry  # imports MLflow: in the worker that needs it only

        registry = MLflowRegistry(yard.mlflow)
        package = small_package(folder / "package")
        version = registry.register(
            Candidate(
                model=NAME,
                archive=package.archive,
                digest=package.digest,
                folder=package.folder,
                manifest=package.manifest,
            )
        )
        wish = DeploymentSpec(model=ModelRef(name=NAME, alias="champion"))
        FileRecords(home / "records").write(ModelDeployment(metadata=Metadata(name=NAME), spec=wish))
        registry.move_alias(NAME, "champion", version.version, expected=None)
        yield home
    finally:
        down(home)


@pytest.fixture
def yard(home: Path) -> Yard:
    """It runs, and answers."""
    yard = up(home)
    answered(yard, "an answer")
    return yard


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def child(yard: Yard, name: str) -> psutil.Process:
    return next(p for p in family(yard.pid) if p.name() == name)


def answer(yard: Yard) -> httpx.Response | None:
    try:
        got = httpx.post(f"{yard.router}/v1/models/{NAME}:predict", content=request_of(1), headers=HEADERS, timeout=20)
    except httpx.HTTPError:
        return None
    return got if got.status_code == 200 else None


def answered(yard: Yard, what: str) -> httpx.Response:
    got = wait_until(lambda: answer(yard), deadline_s=90, what=what)
    assert got is not None
    return got


def test_a_version_that_the_alias_names_comes_to_live_traffic(yard: Yard, home: Path) -> None:
    got = answered(yard, "an answer")
    assert (got.headers["x-modelyard-version"], got.json()["label"]) == ("1", "middle")
    records = FileRecords(home / "records")
    stable = wait_until(lambda: records.deployment(KEY).status.stable, deadline_s=20, what="a stable arm")
    assert stable.version == "1"


def test_nothing_listens_on_any_address_but_127_0_0_1(yard: Yard) -> None:
    listening = [
        (process.name(), connection.laddr.ip.removeprefix("::ffff:"))
        for process in family(yard.pid)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {name for name, _ in listening} >= {"java", "envoy"}
    assert {address for _, address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("name", ["java", "envoy"])
def test_a_server_and_the_router_come_back_after_a_crash(yard: Yard, name: str) -> None:
    killed = child(yard, name)
    killed.kill()
    wait_until(lambda: not alive([killed]), deadline_s=5, what="its end")
    answered(yard, f"an answer after {name} was killed")


def test_predictions_go_on_while_mlflow_is_away_and_it_comes_back(yard: Yard) -> None:
    for process in family(yard.pid):
        if "mlflow" in " ".join(process.cmdline()) and process.pid != yard.pid:
            process.kill()
    assert answer(yard) is not None

    def healthy() -> bool:
        try:
            return httpx.get(yard.mlflow + "/health").status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(healthy, deadline_s=90, what="MLflow")


def test_a_yard_that_was_killed_leaves_no_process_and_goes_on_where_it_was(yard: Yard, home: Path) -> None:
    before = answered(yard, "an answer").headers["x-modelyard-version"]
    processes = family(yard.pid)
    os.kill(yard.pid, signal.SIGKILL)
    wait_until(lambda: not alive(processes), deadline_s=20, what="the end of all processes")
    assert (home / "yard.json").exists()  # it had no time to remove it ...
    assert running(home) is None  # ... and nobody is fooled
    again = up(home)
    assert (again.router, again.mlflow) == (yard.router, yard.mlflow)
    assert answered(again, "an answer of the same version").headers["x-modelyard-version"] == before


def test_up_twice_is_one_yard_and_a_second_process_is_refused(yard: Yard, home: Path) -> None:
    assert up(home) == yard
    second = subprocess.run(
        [sys.executable, "-m", "modelyard.rollout.laptop.serve", "--home", str(home)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"served by process {yard.pid}" in second.stderr
    assert running(home) == yard


def test_down_ends_everything_and_may_be_repeated(yard: Yard, home: Path) -> None:
    processes = family(yard.pid)
    assert down(home) is True
    assert alive(processes) == []
    assert running(home) is None
    assert not (home / "yard.json").exists()
    assert down(home) is False


def test_a_stale_address_file_of_another_process_is_no_yard(tmp_path: Path) -> None:
    yard = Yard(pid=os.getpid(), born=1.0, mlflow="http://x", router="http://y", admin="http://z")
    (tmp_path / "yard.json").write_text(to_json(yard))
    assert running(tmp_path) is None
    assert down(tmp_path) is False


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder belongs")
    with pytest.raises(BadInput, match="cannot be used"):
        up(tmp_path / "home")


def test_a_yard_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "home/arms").mkdir(parents=True)
    (tmp_path / "home/arms/arms.json").write_text("{ damaged")
    with pytest.raises(Unavailable, match=r"arms\.json is not JSON"):
        up(tmp_path / "home")
    assert running(tmp_path / "home") is None
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
