"""How a version comes in, and how it goes: the usual ways, from the alias to the end."""

from dataclasses import replace

import pytest
from tests.fakes.world import KEY, MODEL, FakeWorld, digest_of

from modelyard.rollout.observation import arm_name
from modelyard.spec.deployment import (
    Analysis,
    AnalysisGate,
    AnalysisStep,
    Canary,
    DeploymentSpec,
    DeploymentStatus,
    ModelRef,
    Pause,
    PauseStep,
    Rollback,
    Runtime,
    SetWeight,
    Strategy,
    TorchServe,
)
from modelyard.spec.metadata import Metadata
from modelyard.spec.rollout import Phase
from modelyard.units import Duration
from modelyard.verdict import Outcome, Reason, Verdict


@pytest.fixture
def it() -> FakeWorld:
    """Version 1 is stable."""
    world = FakeWorld()
    world.wish()
    world.bring("1")
    return world


def events(it: FakeWorld) -> list[str]:
    return [each["event"] for each in it.attempt.status.timeline]


def test_the_first_version_goes_straight_to_stable() -> None:
    it = FakeWorld()
    it.wish()
    it.bring("1")
    assert it.stable == "1"
    assert it.attempt.spec.steps == ()
    assert it.attempt.status.phase is Phase.SUCCESSFUL
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.reason is Reason.FIRST_VERSION
    assert it.router.confirmed[KEY] == {it.arm_of("1"): 100}
    assert it.tags == {"1": "stable"}


def test_the_first_version_gets_no_traffic_before_it_is_ready() -> None:
    it = FakeWorld()
    it.wish()
    it.version("1")
    it.alias("1")
    it.arms.broken[digest_of("1")] = None
    for _ in range(20):
        it.look()
        it.pass_time()
    assert it.router.asked.get(KEY, {}) == {}
    it.arms.broken.clear()
    it.run()
    assert it.stable == "1"


def test_a_good_canary_walks_5_50_100_and_becomes_stable(it: FakeWorld) -> None:
    weights = []
    it.version("2")
    it.alias("2")

    def watch() -> bool:
        weights.append(it.weight_of("2"))
        return it.at_rest and it.stable == "2"

    it.run(until=watch)
    it.run()
    assert [share for share, before in zip(weights, [None, *weights], strict=False) if share != before] == [
        0,
        5,
        50,
        100,
    ]
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.reason is Reason.ANALYSIS_SUCCESSFUL
    assert it.attempt.status.alias == {"before": "1"}
    assert set(it.arms.there[KEY]) == {it.arm_of("2")}
    assert it.tags["2"] == "stable"
    assert it.unanswered == {}


def test_a_bad_canary_is_rolled_back_and_says_why(it: FakeWorld) -> None:
    it.bring("2", errors=0.2)
    verdict = it.attempt.status.verdict
    assert it.stable == "1"
    assert it.attempt.status.phase is Phase.FAILED
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, Reason.ERROR_RATE)
    assert it.router.confirmed[KEY] == {it.arm_of("1"): 100}
    assert set(it.arms.there[KEY]) == {it.arm_of("1")}
    tags = it.registry.known["digits", "2"].tags
    assert (tags["modelyard.rollout"], tags["modelyard.rollout.reason"]) == ("failed", "ErrorRate")
    assert tags["modelyard.rollout.message"] == verdict.message
    assert it.unanswered == {}


def test_a_slow_canary_is_rolled_back(it: FakeWorld) -> None:
    it.bring("2", latency_ms=200.0)
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.reason is Reason.LATENCY
    assert it.stable == "1"


def test_the_timeline_has_the_times_that_a_demo_reports(it: FakeWorld) -> None:
    it.bring("2", errors=0.2)
    ours = [
        each
        for each in events(it)
        if each in ("AliasObserved", "CanaryReady", "FirstCanaryResponse", "WeightZeroConfirmed")
    ]
    assert ours == ["AliasObserved", "CanaryReady", "FirstCanaryResponse", "WeightZeroConfirmed"]
    times = [each["at"] for each in it.attempt.status.timeline]
    assert times == sorted(times)


def test_with_keep_the_alias_stays_and_the_failed_version_is_not_tried_again(it: FakeWorld) -> None:
    it.wish(rollback=Rollback(alias="Keep"))
    it.bring("2", errors=0.2)
    it.run(until=lambda: it.now > 1_002_000.0, seconds=5.0)
    assert len(it.rollouts) == 2
    assert it.registry.aliases["digits", "champion"] == "2"
    assert it.attempt.status.alias == {"before": "1", "after": "2"}
    assert it.condition("Degraded") == ("True", "TargetFailed")


def test_with_restore_the_alias_names_stable_again(it: FakeWorld) -> None:
    it.wish(rollback=Rollback(alias="Restore"))
    it.bring("2", errors=0.2)
    assert it.registry.aliases["digits", "champion"] == "1"
    assert it.attempt.status.alias == {"before": "1", "after": "1"}
    assert it.condition("Degraded") == ("False", "AsWished")
    assert len(it.rollouts) == 2


def test_an_alias_that_another_deployment_follows_too_is_not_moved(it: FakeWorld) -> None:
    it.wish(rollback=Rollback(alias="Restore"))
    it.records.write(replace(it.deployment, metadata=Metadata(name="twin"), status=DeploymentStatus()))
    it.bring("2", errors=0.2)
    assert it.stable == "1"
    assert it.registry.aliases["digits", "champion"] == "2"
    assert it.attempt.status.alias == {"before": "1", "after": "2"}


def test_an_alias_that_somebody_moved_since_is_left_where_it_is(it: FakeWorld) -> None:
    it.wish(rollback=Rollback(alias="Restore"))
    it.version("3")
    it.version("2", errors=0.2)
    it.alias("2")
    it.run(until=it.phase(Phase.ROLLING_BACK))
    it.alias("3")
    it.run()
    assert [each.spec.version for each in it.rollouts] == ["1", "2", "3"]
    assert it.rollouts[1].status.alias == {"before": "1", "after": "3"}
    assert it.stable == "3"


def test_a_failed_version_that_the_alias_leaves_and_names_again_waits_for_retry(it: FakeWorld) -> None:
    it.bring("2", errors=0.2)
    it.alias("1")
    it.run()
    it.alias("2")
    it.run()
    assert [each.spec.version for each in it.rollouts] == ["1", "2"]


def test_its_mark_outlives_its_record(it: FakeWorld) -> None:
    it.bring("2", errors=0.2)
    it.records.delete(it.attempt)
    it.run()
    assert len(it.rollouts) == 1
    assert it.condition("Degraded") == ("True", "TargetFailed")


def test_a_first_version_that_cannot_start_leaves_nothing_behind() -> None:
    it = FakeWorld()
    it.wish()
    it.arms.broken[digest_of("1")] = None
    it.bring("1")
    assert it.attempt.status.phase is Phase.FAILED
    assert it.stable is None
    assert it.arms.there[KEY] == {}
    assert it.router.asked.get(KEY, {}) == {}


def test_a_canary_that_is_not_ready_by_the_progress_deadline_is_inconclusive_and_unmarked(it: FakeWorld) -> None:
    it.arms.broken[digest_of("2")] = None
    it.wish(strategy=Strategy(canary=Canary(progress_deadline=Duration("20s"))))
    it.bring("2")
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.PROGRESS_DEADLINE)
    assert it.tags["2"] == ""
    assert it.attempt.status.ended_at is not None
    assert 20 <= it.attempt.status.ended_at - it.attempt.status.started_at < 25


def test_an_unpullable_canary_is_inconclusive_with_that_reason_and_no_mark_on_the_version(it: FakeWorld) -> None:
    why = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.CANARY_UNAVAILABLE, message="the image cannot be pulled")
    it.arms.broken[digest_of("2")] = why
    it.wish(strategy=Strategy(canary=Canary(progress_deadline=Duration("20s"))))
    it.bring("2")
    verdict = it.attempt.status.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.CANARY_UNAVAILABLE)
    assert "cannot be pulled" in verdict.message
    assert it.tags["2"] == ""
    assert it.attempt.status.ended_at is not None
    assert it.attempt.status.ended_at - it.attempt.status.started_at >= 20


def test_a_canary_whose_own_code_cannot_start_fails_at_once_and_is_marked(it: FakeWorld) -> None:
    why = Verdict(outcome=Outcome.FAILED, reason=Reason.CANARY_UNAVAILABLE, message="recipe.py raises on import")
    it.arms.broken[digest_of("2")] = why
    it.bring("2")
    assert it.attempt.status.verdict == why
    assert it.tags["2"] == "failed"
    assert it.attempt.status.ended_at is not None
    assert it.attempt.status.ended_at - it.attempt.status.started_at < 10


def test_a_change_of_the_serving_settings_alone_is_a_rollout_too(it: FakeWorld) -> None:
    before = it.arm_of("1")
    it.wish(runtime=Runtime(torch_serve=TorchServe(workers=2)))
    it.run()
    assert it.arm_of("1") != before
    assert [each.spec.version for each in it.rollouts] == ["1", "1"]
    assert set(it.arms.there[KEY]) == {it.arm_of("1")}


def test_a_change_of_replicas_is_no_rollout(it: FakeWorld) -> None:
    it.wish(replicas=3)
    it.run()
    assert len(it.rollouts) == 1
    assert it.arms.there[KEY][it.arm_of("1")].replicas == 3


def test_a_pinned_version_is_followed_without_an_alias() -> None:
    it = FakeWorld()
    it.wish(model=ModelRef(name="digits", version="1"))
    it.version("1")
    it.version("2")
    it.run()
    it.wish(model=ModelRef(name="digits", version="2"))
    it.run()
    assert it.stable == "2"


def test_a_pinned_version_that_is_not_there_is_said_so() -> None:
    it = FakeWorld()
    it.wish(model=ModelRef(name="digits", version="9"))
    it.look()
    assert it.rollouts == ()
    assert it.condition("Degraded") == ("True", "VersionMissing")


def test_steps_without_an_analysis_end_with_one() -> None:
    it = FakeWorld()
    it.wish(strategy=Strategy(canary=Canary(steps=(SetWeight(set_weight=20),))))
    it.bring("1")
    it.bring("2")
    assert isinstance(it.attempt.spec.steps[-1], AnalysisStep)
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.reason is Reason.ANALYSIS_SUCCESSFUL


def test_a_pause_step_lasts_as_long_as_it_says(it: FakeWorld) -> None:
    steps = (
        SetWeight(set_weight=50),
        PauseStep(pause=Pause(duration=Duration("2m"))),
        AnalysisStep(analysis=AnalysisGate()),
    )
    it.wish(strategy=Strategy(canary=Canary(steps=steps)))
    it.bring("2")
    by_event = {each["event"]: each["at"] for each in it.attempt.status.timeline}
    assert 120 <= by_event["Promoting"] - by_event["Weight50"] < 122


def test_an_upgrade_that_adds_a_field_with_a_default_renames_no_arm() -> None:
    said = DeploymentSpec(model=ModelRef(name="digits"), runtime=Runtime(torch_serve=TorchServe(batch_size=1)))
    assert arm_name("sha256:1", said) == arm_name("sha256:1", DeploymentSpec(model=ModelRef(name="other")))
    assert arm_name("sha256:1", said) == "a7de3f8e92"


def test_arms_differ_by_bytes_and_by_how_they_are_served() -> None:
    one = DeploymentSpec(model=ModelRef(name="digits"))
    other = DeploymentSpec(model=ModelRef(name="digits"), runtime=Runtime(torch_serve=TorchServe(workers=2)))
    assert len({arm_name("sha256:1", one), arm_name("sha256:2", one), arm_name("sha256:1", other)}) == 3


def test_old_attempts_are_forgotten_but_for_what_is_needed(it: FakeWorld) -> None:
    it.wish(rollback=Rollback(retain=2))
    for number in range(2, 9):
        it.bring(str(number), errors=0.3 if number % 2 else 0.0)
    kept = [each.metadata.name for each in it.rollouts]
    assert kept == ["digits-00004", "digits-00005", "digits-00006", "digits-00007", "digits-00008"]
    assert it.stable == "8"


def test_the_analysis_of_a_spec_that_cannot_be_analysed_never_promotes(it: FakeWorld) -> None:
    it.wish(analysis=Analysis(metrics=()))
    it.bring("2")
    assert it.stable == "1"
    assert it.attempt.status.verdict is not None
    assert it.attempt.status.verdict.outcome is Outcome.INCONCLUSIVE


def test_the_registry_keeps_who_was_champion_when(it: FakeWorld) -> None:
    """An alias forgets what it named before, and attempts beyond `retain` are forgotten with their objects."""
    it.now = 1_800_000_000.0
    it.bring("2")
    it.now += 3600
    it.alias("1")
    it.run()
    kept = {
        number: [name for name in each.tags if name.startswith("modelyard.champion.")]
        for (_, number), each in it.registry.known.items()
    }
    assert kept == {
        "1": ["modelyard.champion.default.digits-00001", "modelyard.champion.default.digits-00003"],
        "2": ["modelyard.champion.default.digits-00002"],
    }
    assert it.registry.known[MODEL, "2"].tags["modelyard.champion.default.digits-00002"].startswith("2027-01-15T08:")


def test_an_attempt_that_ended_is_no_canary_any_more(it: FakeWorld) -> None:
    """`kubectl get mdep` showed the version of the last attempt as CANARY for ever."""
    it.version("2", errors=0.5)
    it.alias("2")
    it.run(until=it.phase(Phase.PROGRESSING))
    it.look()
    assert it.deployment.status.canary is not None
    assert it.deployment.status.canary.version == "2"
    it.run()
    ended = it.deployment.status.canary
    assert ended is not None
    assert (ended.version, ended.weight, ended.step, ended.verdict) == ("", 0, "", "Failed: ErrorRate")


def test_of_stable_alone_no_counters_are_asked(it: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query to Prometheus is a third of a look's time, and at rest it decides nothing."""
    asked: list[str] = []
    counts = it.counters.counts

    def asking(key: str) -> object:
        asked.append(key)
        return counts(key)

    monkeypatch.setattr(it.counters, "counts", asking)
    it.look()
    assert asked == []
    it.bring("2")
    assert set(asked) == {KEY}
