"""Whom a candidate is judged against, and what a run that is repeated does about an attempt that ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.records import FakeRecords
from tests.fakes.world import KEY as WORLD_KEY
from tests.fakes.world import FakeWorld

from modelyard.registry.port import Version
from modelyard.rollout import commands
from modelyard.runs import champion
from modelyard.runs.champion import COMPARED_WITH, Champion, champion_of
from modelyard.runs.rollout import deployment_spec, refused_by, superseded, wait_for_verdict
from modelyard.spec.codec import from_data
from modelyard.spec.deployment import ModelDeployment
from modelyard.spec.metadata import Metadata
from modelyard.spec.project import ModelProject
from modelyard.spec.rollout import ModelRollout, Phase, RolloutSpec, RolloutStatus
from modelyard.verdict import Outcome, Reason, Verdict

PROJECT = from_data(
    ModelProject,
    {"metadata": {"name": "m"}, "data": {"source": "bundled:digits"}, "train": {"recipe": {"use": "recipe.py:R"}}},
)
MINE = {"modelyard.compress.key": "k2"}
KEY = "default/m"


class Named:
    """A registry whose alias names the last version."""

    def __init__(self, *tags: Mapping[str, str]) -> None:
        self._versions = tuple(
            Version(model="m", version=str(number), digest=f"sha256:{number}", tags=tag)
            for number, tag in enumerate(tags, start=1)
        )

    def versions(self, model: str) -> tuple[Version, ...]:
        return self._versions

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        missing = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.ALIAS_MISSING, message="none")
        return self._versions[-1] if self._versions else missing


@pytest.fixture(autouse=True)
def _no_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion, "_unpacked", lambda _, named, into: Champion(version=named.version, folder=into))


def judged_against(registry: Any) -> str | None:
    return champion_of(registry, PROJECT, mine=MINE, into=Path()).version


def test_a_candidate_is_judged_against_what_the_alias_names() -> None:
    assert judged_against(Named()) is None
    assert judged_against(Named({"modelyard.compress.key": "k1", COMPARED_WITH: ""})) == "1"


def test_a_run_that_finds_its_own_model_there_is_judged_against_the_champion_of_then() -> None:
    """Killed after the alias moved, and run again: no model is better than itself."""
    first = {"modelyard.compress.key": "k1", COMPARED_WITH: ""}
    assert judged_against(Named(first, {**MINE, COMPARED_WITH: "1"})) == "1"
    assert judged_against(Named({**MINE, COMPARED_WITH: ""})) is None


def test_a_champion_of_then_that_was_deleted_is_replaced_by_what_the_alias_names() -> None:
    assert judged_against(Named({**MINE, COMPARED_WITH: "7"})) == "1"


def an_attempt(number: int, phase: Phase, reason: Reason, arm: str = "a1") -> ModelRollout:
    verdict = Verdict(outcome=Outcome.FAILED, reason=reason, message="p90 412 ms > 250 ms")
    spec = RolloutSpec(
        deployment="m", version="2", digest="sha256:2", arm=arm, steps=(), serving=deployment_spec(PROJECT)
    )
    status = RolloutStatus(phase=phase, verdict=verdict)
    return ModelRollout(metadata=Metadata(name=f"m-{number:05d}"), spec=spec, status=status)


def records_of(*attempts: ModelRollout) -> FakeRecords:
    kept = FakeRecords()
    kept.write(ModelDeployment(metadata=Metadata(name="m"), spec=deployment_spec(PROJECT)))
    kept.rollouts = lambda _: attempts  # type: ignore[method-assign]
    return kept


def test_what_was_rolled_back_is_not_promoted_again_unasked() -> None:
    """Killed while its canary ran, and run again after the loop had rolled it back: the alias stays restored."""
    failed = an_attempt(1, Phase.FAILED, Reason.ERROR_RATE)
    assert refused_by(records_of(failed), KEY, "a1") == "m-00001"
    assert refused_by(records_of(failed), KEY, "another") is None
    retried = an_attempt(2, Phase.PROGRESSING, Reason.ERROR_RATE)
    assert refused_by(records_of(failed, retried), KEY, "a1") is None


def test_what_another_version_superseded_is_promoted_again_and_its_old_verdict_is_not_meant() -> None:
    old = an_attempt(1, Phase.FAILED, Reason.SUPERSEDED)
    new = an_attempt(2, Phase.FAILED, Reason.LATENCY)
    assert refused_by(records_of(old), KEY, "a1") is None
    earlier = superseded(records_of(old), KEY, "a1")
    assert earlier == {"m-00001"}
    looks = iter([records_of(old), records_of(old, new)])
    changing = FakeRecords()
    changing.rollouts = lambda key: next(looks).rollouts(key)  # type: ignore[method-assign]
    attempt, verdict = wait_for_verdict(
        changing, KEY, version="2", arm="a1", earlier=earlier, settled=True,
        say=lambda _: None, alive=lambda: True, deadline_s=5,
    )  # fmt: skip
    assert attempt is not None
    assert (attempt.metadata.name, verdict.reason) == ("m-00002", Reason.LATENCY)


def test_a_version_that_was_undone_is_not_said_to_be_live() -> None:
    it = FakeWorld.with_stable()
    it.bring("2")
    arm = it.attempt.spec.arm
    it.patch(commands.undo(it.deployment, it.rollouts))
    it.run()
    attempt, verdict = wait_for_verdict(
        it.records, WORLD_KEY, version="2", arm=arm, earlier=frozenset(), settled=True,
        say=lambda _: None, alive=lambda: True, deadline_s=5,
    )  # fmt: skip
    assert attempt is None
    assert (verdict.outcome, verdict.message[:32]) == (Outcome.FAILED, "version 2 was undone by digits-0")
    assert refused_by(it.records, WORLD_KEY, arm) == "digits-00003"
