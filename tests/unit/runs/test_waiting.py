"""A run that waits for the rollout loop says what keeps the loop from going on."""

from dataclasses import replace

import pytest
from tests.fakes.records import FakeRecords

from modelyard.errors import StageFailed
from modelyard.runs.rollout import wait_for_verdict
from modelyard.spec.deployment import Condition, DeploymentSpec, ModelDeployment, ModelRef
from modelyard.spec.metadata import Metadata

KEY = "default/m"


def records_with(reason: str, message: str, *, generation: int = 1) -> FakeRecords:
    kept = FakeRecords()
    kept.write(ModelDeployment(metadata=Metadata(name="m"), spec=DeploymentSpec(model=ModelRef(name="m", alias="a"))))
    stored = kept.deployment(KEY)
    assert stored is not None
    degraded = Condition(type="Degraded", status="True", reason=reason, message=message, observed_generation=generation)
    kept.write(replace(stored, status=replace(stored.status, conditions=(degraded,))))
    return kept


def wait(kept: FakeRecords, *, deadline_s: float = 0.3) -> list[str]:
    told: list[str] = []
    with pytest.raises(StageFailed) as ended:
        wait_for_verdict(
            kept, KEY, version="2", arm="a1", earlier=frozenset(), settled=True,
            say=told.append, alive=lambda: True, deadline_s=deadline_s,
        )  # fmt: skip
    return [*told, str(ended.value)]


def test_what_only_a_person_can_change_ends_the_wait_at_once() -> None:
    told = wait(records_with("Refused", "traffic.port 8080 is taken by another program"), deadline_s=60)
    assert told == ["the rollout loop was refused: traffic.port 8080 is taken by another program. Then run again."]


def test_a_refusal_of_what_the_file_said_before_does_not_end_it() -> None:
    told = wait(records_with("Refused", "traffic.port 8080 is taken", generation=0))
    assert "no verdict on version 2" in told[-1].lower()


def test_what_may_pass_is_shown_while_it_waits() -> None:
    told = wait(records_with("RegistryUnavailable", "MLflow is away"))
    assert told[0] == "waiting for the loop to see the alias; MLflow is away"
    assert "no verdict on version 2" in told[-1].lower()
