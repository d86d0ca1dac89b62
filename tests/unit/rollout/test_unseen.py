"""While nobody counts what clients got, nothing is judged, and people are told why it stands still."""

from tests.fakes.world import FakeWorld

from modelyard.spec.deployment import Condition
from modelyard.spec.rollout import Phase


def progressing(it: FakeWorld) -> Condition:
    return next(each for each in it.deployment.status.conditions if each.type == "Progressing")


def test_missing_counters_are_said_once_and_no_more_when_they_are_back(it: FakeWorld) -> None:
    it.run(until=lambda: it.weight_of("2") == 50)
    it.counters.missing = True
    it.run(until=lambda: progressing(it).reason == "NoEvidence")
    assert "no counters" in progressing(it).message
    assert it.attempt.status.phase is Phase.PROGRESSING
    assert it.stable == "1"
    it.counters.missing = False
    it.run(until=lambda: progressing(it).reason != "NoEvidence")
    it.run()
    assert it.stable == "2"


def test_one_reading_that_is_missed_is_no_news(it: FakeWorld) -> None:
    it.run(until=lambda: it.weight_of("2") == 50)
    it.counters.missing = True
    for _ in range(20):
        it.look()
        it.pass_time(0.5)
    it.counters.missing = False
    it.run(until=lambda: it.stable == "2" or progressing(it).reason == "NoEvidence")
    assert it.stable == "2"
