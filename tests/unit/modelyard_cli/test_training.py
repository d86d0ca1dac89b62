"""`modelyard train`: what is refused before anything runs, and what a cluster is told."""

from pathlib import Path

import pytest

from modelyard.errors import BadInput
from modelyard_cli import wiring
from modelyard_cli.training import Cancelled, Kind, launch_of

from .conftest import Command

SPEC = Path(__file__).parents[3] / "examples" / "digits" / "modelyard.yaml"


@pytest.mark.parametrize("option", [("--namespace", "vision"), ("--job", "TrainJob"), ("--on-cancel", "suspend")])
def test_what_acts_on_a_cluster_only_is_refused_on_this_machine(option: tuple[str, str], command: Command) -> None:
    told = command("train", "--project", str(SPEC.parent), *option)
    assert told.exit_code == 2
    assert f"{option[0]} cannot act on this machine" in told.stderr


@pytest.mark.parametrize("store", [None, "/tmp/store", "file:///tmp/store"])
def test_a_store_that_no_pod_reaches_is_refused(store: str | None) -> None:
    with pytest.raises(BadInput, match="store"):
        launch_of(wiring.parsed(SPEC), "vision", store, None, Cancelled.DELETE)


def test_the_pods_get_the_place_of_the_bucket_and_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.com")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    launch = launch_of(wiring.parsed(SPEC), "vision", "s3://models/digits", Kind.TRAINJOB, Cancelled.SUSPEND)
    assert launch.environment is not None
    assert launch.environment["AWS_ENDPOINT_URL"] == "https://s3.example.com"
    assert not any("KEY" in name for name in launch.environment)
    assert (launch.api, launch.on_cancel, launch.namespace) == ("TrainJob", "suspend", "vision")
