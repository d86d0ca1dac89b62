"""A canary beside a fresh copy of stable, and what both predict: real processes of the laptop but for the servers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.plain_registry import PlainRegistry
from tests.fakes.records import FakeRecords
from tests.fakes.stub_server import Stub, StubServer
from tests.integration.laptop.conftest import KEY, Load

from modelyard.processes import wait_until
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.laptop.arms import LaptopArms
from modelyard.rollout.laptop.counters import EnvoyCounters
from modelyard.rollout.laptop.home import Home
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.rollout.loop import look
from modelyard.rollout.ports import World
from modelyard.rollout.states import has_ended
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisMetric,
    AnalysisStep,
    Canary,
    DeploymentSpec,
    MetricMargin,
    ModelDeployment,
    ModelRef,
    SetWeight,
    Strategy,
)
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import ModelRollout
from modelyard.storage.atomic import digest_bytes
from modelyard.units import Percentage
from modelyard.verdict import Reason

pytestmark = pytest.mark.process

DRIFT = AnalysisMetric(name="prediction-drift", margin=MetricMargin(type="Absolute", value=Percentage("30%")))
WISH = DeploymentSpec(
    model=ModelRef(name="digits", alias="champion"),
    analysis=Analysis(metrics=(DRIFT,), baseline=True),
    strategy=Strategy(
        canary=Canary(steps=(SetWeight(set_weight=30), AnalysisStep(analysis=AnalysisGate()))),
    ),
)
PREDICTS = {"1": "cat", "2": "cat", "3": "dog"}


@pytest.fixture
def world(tmp_path: Path, router: EnvoyRouter) -> Iterator[World]:
    registry, home = PlainRegistry(), Home(tmp_path)
    home.archives.mkdir()
    for number in PREDICTS:
        digest = digest_bytes(number.encode())
        registry.add("digits", number, digest)
        (home.archives / f"{digest.removeprefix('sha256:')}.mar").write_text(number)

    def launch(_archive: Path, arm: EnsureArm, _work: Path) -> StubServer:
        return StubServer(Stub(label=PREDICTS[arm.version], delay_s=0.02))

    arms = LaptopArms(home, registry, router, launch=launch)  # type: ignore[arg-type]
    records = FakeRecords()
    records.write(ModelDeployment(metadata=Metadata(name="digits"), spec=WISH))
    yield World(records=records, registry=registry, arms=arms, router=router, counters=EnvoyCounters(router))
    arms.stop()


def bring(world: World, number: str, seen: list[dict[str, int]]) -> ModelRollout:
    """Let the alias name a version and look until all is at rest; notes the shares that were confirmed."""
    world.registry.aliases["digits", "champion"] = number  # type: ignore[attr-defined]

    def rested() -> bool:
        again = look(world, KEY, now=time.time())
        confirmed = dict(world.router.weights(KEY).confirmed or {})
        if confirmed not in seen:
            seen.append(confirmed)
        attempts = world.records.rollouts(KEY)
        return again is None and bool(attempts) and has_ended(attempts[-1])

    wait_until(rested, deadline_s=60, what="the end of the rollout")
    return world.records.rollouts(KEY)[-1]


def test_a_canary_beside_its_baseline_is_promoted_or_rolled_back_by_what_both_predict(
    world: World, router: EnvoyRouter, load: Callable[[str], Load]
) -> None:
    bring(world, "1", [])
    clients = load(router.url + "/predictions/digits")
    seen: list[dict[str, int]] = []
    promoted = bring(world, "2", seen)
    rolled_back = bring(world, "3", seen)
    clients.stop()
    assert promoted.status.verdict is not None
    assert promoted.status.verdict.reason is Reason.ANALYSIS_SUCCESSFUL
    assert rolled_back.status.verdict is not None
    assert rolled_back.status.verdict.reason is Reason.PREDICTION_DRIFT
    assert "'dog'" in rolled_back.status.verdict.message or "'cat'" in rolled_back.status.verdict.message
    shares = [sorted(share for share in weights.values() if share) for weights in seen]
    assert shares.count([30, 30, 40]) == 2
    assert set(world.arms.arms(KEY)) == {promoted.spec.arm}
    assert clients.failed == 0
