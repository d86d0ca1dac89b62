"""The table of an attempt's phases, and the diagram that is drawn from it."""

from pathlib import Path

import pytest

from modelyard.rollout.capacity import margins_at, needed, share_at, split, total
from modelyard.rollout.states import ENDED, TRANSITIONS, allowed, diagram, enter
from modelyard.spec.deployment import AnalysisGate, AnalysisStep, Pause, PauseStep, SetWeight
from modelyard.spec.rollout import Phase, RolloutStatus
from modelyard.units import Percentage

DOCS = Path(__file__).parents[3] / "docs" / "rollout.md"


def test_the_diagram_in_the_docs_is_drawn_from_the_table() -> None:
    """To draw it anew: `python -c "from modelyard.rollout.states import diagram; print(diagram())"`."""
    assert f"```mermaid\n{diagram()}```\n" in DOCS.read_text()


def test_every_phase_can_be_reached_and_every_running_one_be_left() -> None:
    assert {line.after for line in TRANSITIONS} == set(Phase)
    assert {line.before for line in TRANSITIONS} == {None, *Phase} - ENDED


def test_whatever_runs_can_be_rolled_back() -> None:
    running = set(Phase) - ENDED - {Phase.ROLLING_BACK}
    assert all(allowed(phase, Phase.ROLLING_BACK) for phase in running)


def test_nothing_follows_an_end() -> None:
    assert not any(allowed(ended, phase) for ended in ENDED for phase in Phase)


def test_a_transition_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="Successful → Starting"):
        enter(RolloutStatus(phase=Phase.SUCCESSFUL), Phase.STARTING, now=1.0)


def test_an_end_has_a_time() -> None:
    status = enter(RolloutStatus(phase=Phase.ROLLING_BACK), Phase.FAILED, now=5.0)
    assert (status.ended_at, status.step_since) == (5.0, 5.0)


WIDE = AnalysisStep(analysis=AnalysisGate(margins={"error-rate": Percentage("5%")}))
NARROW = AnalysisStep(analysis=AnalysisGate())
STEPS = (SetWeight(set_weight=5), WIDE, PauseStep(pause=Pause()), SetWeight(set_weight=50), NARROW)


@pytest.mark.parametrize(
    ("replicas", "share", "expected"),
    [(1, 0, 0), (1, 1, 1), (1, 100, 1), (4, 5, 1), (4, 25, 1), (4, 26, 2), (10, 99, 10), (100, 1, 1), (0, 50, 1)],
)
def test_replicas_that_carry_a_share(replicas: int, share: int, expected: int) -> None:
    assert needed(replicas, share) == expected


def test_everything_is_never_carried_by_nothing() -> None:
    assert (total(0), total(2, 5), total(0, 0)) == (1, 5, 1)


def test_a_step_has_the_weight_that_was_last_set() -> None:
    assert [share_at(STEPS, step) for step in range(6)] == [5, 5, 5, 50, 50, 50]
    assert share_at((NARROW,), 0) == 0


def test_a_step_has_the_margins_of_the_verdict_ahead_or_of_the_last_one() -> None:
    wide, none = {"error-rate": "5%"}, {}
    assert [dict(margins_at(STEPS, step)) for step in range(6)] == [wide, wide, none, none, none, none]
    assert dict(margins_at((WIDE, SetWeight(set_weight=50)), 1)) == wide


def test_weights_of_a_split_sum_to_a_hundred() -> None:
    assert split("old", "new", 30) == {"old": 70, "new": 30}
