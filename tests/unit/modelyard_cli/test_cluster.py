"""Who is on call steers a cluster's rollouts with the same words."""

import json
from collections.abc import Iterator

import pytest
from tests.fakes.cluster import Call
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.replica import Replica
from typer.testing import CliRunner

from modelyard.kube.port import MODEL_ROLLOUT
from modelyard.spec.rollout import Phase
from modelyard_cli.main import plugin
from modelyard_cli.wiring import in_cluster

from .conftest import Command


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> ClusterWorld:
    """A canary of version 2 is on its way."""
    made = ClusterWorld()
    for number in "12":
        made.version(number)
    made.alias("1")
    made.wish()
    replica = Replica(made, "operator")
    while not made.at_rest:
        made.pass_time()
        replica.turn()
    made.alias("2")
    while made.phases()[-1] != Phase.PROGRESSING:
        made.pass_time()
        replica.turn()
    monkeypatch.setattr("modelyard.kube.client.connect", lambda context=None: made.kube)
    monkeypatch.setattr("modelyard.kube.client.namespace_of_context", lambda context=None: "default")
    return made


@pytest.fixture
def as_plugin() -> Iterator[None]:
    token = in_cluster.set(True)
    yield
    in_cluster.reset(token)


def test_status_reads_a_cluster_where_one_is_named(it: ClusterWorld, command: Command) -> None:
    for words in (("-n", "default"), ("--context", "prod")):
        rows = json.loads(command("rollout", "status", "digits", *words, "-o", "json").stdout)
        assert [(row["version"], row["phase"]) for row in rows] == [("1", "Successful"), ("2", "Progressing")]


@pytest.mark.parametrize(("verb", "switch"), [("pause", "paused"), ("abort", "abort"), ("promote", "promote")])
def test_a_switch_writes_one_rollout_and_nothing_else(
    it: ClusterWorld, command: Command, verb: str, switch: str
) -> None:
    written: list[Call] = []
    it.kube.before = lambda call: written.append(call) if call.writes else None
    told = command("rollout", verb, "digits", "-n", "default")
    assert told.stdout == f"{verb}: digits-00002 (version 2)\n"
    assert [(each.kind, each.name, each.subresource) for each in written] == [(MODEL_ROLLOUT, "digits-00002", "")]
    assert getattr(it.attempt.spec, switch) is True


def test_the_plug_in_of_kubectl_means_the_current_context(it: ClusterWorld, as_plugin: None) -> None:
    told = CliRunner().invoke(plugin, ["rollout", "abort", "digits"])
    assert told.stdout == "abort: digits-00002 (version 2)\n"
    assert it.attempt.spec.abort


def test_in_a_cluster_the_deployment_has_to_be_named(it: ClusterWorld, command: Command) -> None:
    told = command("rollout", "status", "-n", "default")
    assert told.exit_code == 2
    assert "no ModelDeployment is named" in told.stderr


def test_a_deployment_that_is_not_there_is_bad_input(it: ClusterWorld, command: Command) -> None:
    told = command("rollout", "abort", "reviews", "-n", "default")
    assert told.exit_code == 2
    assert "there are: digits" in told.stderr
