"""What a role for who is on call has to grant: a patch of a ModelRollout, and nothing else."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.fakes.cluster import Call
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.replica import Replica

from modelyard.errors import BadInput, Forbidden
from modelyard.kube.port import MODEL_ROLLOUT
from modelyard.rollout import commands
from modelyard.rollout.cluster.records import KubeRecords
from modelyard.spec.rollout import ModelRollout, Phase

Command = Callable[[ModelRollout], ModelRollout]


@pytest.fixture(scope="module")
def running() -> ClusterWorld:
    """A canary is under way."""
    it = ClusterWorld()
    it.version("1")
    it.alias("1")
    it.wish()
    replica = Replica(it, "only")
    for turn in range(16):
        if turn == 12:
            it.version("2", errors=0.02)
            it.alias("2")
        it.pass_time(1.0)
        replica.turn()
    return it


def on_call(it: ClusterWorld) -> KubeRecords:
    def only_patches(call: Call) -> None:
        if call.writes and (call.verb, call.kind) != ("apply", MODEL_ROLLOUT):
            raise Forbidden(f"no right to {call.verb} {call.kind.plural}", do="grant it")

    it.kube.before = only_patches
    return KubeRecords(it.kube, manager="modelyard-cli")


@pytest.mark.parametrize("command", [commands.pause, commands.resume, commands.promote, commands.abort])
def test_each_switch_is_set_by_a_patch(running: ClusterWorld, command: Command) -> None:
    it = running.fork()
    wanted = command(it.attempt)
    on_call(it).write(wanted)
    assert it.attempt.spec == wanted.spec


def test_a_switch_stays_when_another_is_set(running: ClusterWorld) -> None:
    it = running.fork()
    for command in (commands.pause, commands.abort):
        on_call(it).write(command(it.attempt))
    spec = it.attempt.spec
    assert (spec.paused, spec.abort) == (True, True)
    assert spec.steps == running.attempt.spec.steps, "what froze stays frozen"


def test_a_switch_that_is_set_already_is_no_write(running: ClusterWorld) -> None:
    it = running.fork()
    records = on_call(it)
    records.write(commands.pause(it.attempt))
    writes = it.kube.writes
    records.write(commands.pause(it.attempt))
    assert it.kube.writes == writes


def test_a_retry_makes_a_new_object_and_needs_the_right_to(running: ClusterWorld) -> None:
    it = running.fork()
    with pytest.raises(BadInput, match="under way"):
        commands.retry(it.deployment, it.rollouts)
    new = commands.retry(it.deployment, [*it.rollouts[:-1], _failed(it.attempt)])
    with pytest.raises(Forbidden, match="create modelrollouts"):
        on_call(it).write(new)


def _failed(attempt: ModelRollout) -> ModelRollout:
    return replace(attempt, status=replace(attempt.status, phase=Phase.FAILED))
