"""Registries, followed by polls: what moved is known, what is away changes nothing."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from tests.fakes.cluster import FakeKube
from tests.fakes.source import Source
from tests.fakes.world import digest_of

from modelyard.errors import BadInput, Unavailable
from modelyard.kube.port import SECRET
from modelyard.registry.port import Version
from modelyard.registry.rest import Credentials
from modelyard.spec.metadata import Metadata
from modelyard.spec.registry import MLflow, ModelRegistry, ModelRegistrySpec, SecretRef
from modelyard.verdict import Reason, Verdict
from modelyard_operator.registries import PATIENCE_S, SECRET_S, Following, Registries

KEY = "default/main"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Source:
    made = Source()
    for number in "12":
        made.add("digits", number, digest_of(number))
    made.aliases_of["digits", "champion"] = "1"
    return made


@pytest.fixture
def following(source: Source, clock: Clock) -> Following:
    made = Following(source, clock=clock)
    made.poll()
    return made


def version_named(following: Following, alias: str = "champion") -> str:
    named = following.resolve("digits", alias)
    assert isinstance(named, Version)
    return named.version


def why(following: Following) -> Reason:
    named = following.resolve("digits", "champion")
    assert isinstance(named, Verdict)
    return named.reason


def test_looks_ask_the_registry_nothing_but_once_for_a_version(source: Source, following: Following) -> None:
    for _ in range(100):
        assert version_named(following) == "1"
    assert source.asked == ["aliases", "version 1"]


def test_a_poll_tells_which_models_moved_and_only_those(source: Source, following: Following) -> None:
    source.add("reviews", "1", digest_of("r1"))
    assert following.poll() == {"reviews"}
    source.aliases_of["digits", "champion"] = "2"
    assert following.poll() == {"digits"}
    assert version_named(following) == "2"
    assert following.poll() == frozenset()


def test_one_lost_poll_is_no_news_and_a_registry_that_is_away_is_told_once(
    source: Source, following: Following, clock: Clock
) -> None:
    version_named(following)
    source.away = True
    with pytest.raises(Unavailable):
        following.poll()
    assert version_named(following) == "1"
    clock.now += PATIENCE_S + 1
    assert following.poll() is None, "everybody is told"
    words = set()
    for _ in range(720):
        clock.now += 5.0
        with pytest.raises(Unavailable):
            following.poll()
        with pytest.raises(Unavailable) as told:
            following.resolve("digits", "champion")
        words.add(str(told.value))
    assert len(words) == 1, "a message that counts seconds would be a write a second"
    source.away = False
    assert following.poll() is None, "everybody is told"
    assert version_named(following) == "1"
    assert following.poll() == frozenset()


def test_a_deleted_version_and_a_vanished_alias_say_so(source: Source, following: Following) -> None:
    """An alias dangles after its version is deleted (mlflow PR #24825)."""
    version_named(following)
    del source.known["digits", "1"]
    assert following.poll() == {"digits"}
    assert why(following) is Reason.VERSION_MISSING
    source.aliases_of["digits", "champion"] = None
    following.poll()
    assert why(following) is Reason.ALIAS_MISSING


def test_a_digest_that_was_rewritten_is_not_believed(source: Source, following: Following) -> None:
    version_named(following)
    source.add("digits", "1", digest_of("other bytes"))
    assert following.poll() == {"digits"}
    assert why(following) is Reason.DIGEST_MISMATCH
    following.poll()
    assert why(following) is Reason.DIGEST_MISMATCH


def test_a_version_without_a_digest_is_no_target(source: Source, following: Following) -> None:
    source.add("digits", "1", "")
    assert why(following) is Reason.ARTIFACT_MISSING


def test_what_we_write_is_known_before_the_next_poll(source: Source, following: Following) -> None:
    following.move_alias("digits", "champion", "2", expected="1")
    assert version_named(following) == "2"
    following.tag("digits", "2", {"modelyard.rollout": "failed"})
    named = following.resolve("digits", "champion")
    assert isinstance(named, Version)
    assert named.tags["modelyard.rollout"] == "failed"


def test_a_thousand_models_cost_one_request_and_a_bounded_number_of_rereads(source: Source, clock: Clock) -> None:
    for each in range(1000):
        source.add(f"m{each}", "1", digest_of(str(each)))
        source.aliases_of[f"m{each}", "champion"] = "1"
    following = Following(source, clock=clock)
    following.poll()
    for each in range(1000):
        following.resolve(f"m{each}", "champion")
    source.asked.clear()
    seen = set()
    for _ in range(51):
        clock.now += 5.0
        before = len(source.asked)
        following.poll()
        assert len(source.asked) - before <= 21
        seen |= {place for place, read in following._read.items() if read.at == clock.now}
    assert len(seen) == 1000, "each is read again in its turn"


def test_a_name_that_no_registry_takes_is_refused(following: Following) -> None:
    with pytest.raises(BadInput):
        following.resolve("a/b", "champion")
    with pytest.raises(BadInput):
        following.resolve("digits", "latest")


# many of them


def registry(secret: str | None = None) -> ModelRegistry:
    reference = None if secret is None else SecretRef(name=secret)
    mlflow = MLflow(tracking_uri="http://mlflow.test", credentials_secret_ref=reference)
    return ModelRegistry(metadata=Metadata(name="main"), spec=ModelRegistrySpec(mlflow=mlflow))


def secret(**data: str) -> dict[str, Any]:
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mlflow", "namespace": "default"},
        "data": encoded,
    }


def test_a_registry_that_is_not_there_says_so_and_is_not_waited_for(clock: Clock) -> None:
    registries = Registries(FakeKube(), clock=clock)
    assert registries.settled(KEY)
    with pytest.raises(Unavailable, match="no ModelRegistry main in namespace default"):
        registries.followed(KEY).resolve("digits", "champion")


def test_after_a_start_looks_wait_for_the_first_poll_and_no_longer(source: Source, clock: Clock) -> None:
    registries = Registries(FakeKube(), connect=lambda *_: source, clock=clock)  # type: ignore[arg-type, return-value]
    registries.put(KEY, registry())
    assert not registries.settled(KEY)
    source.away = True
    with pytest.raises(Unavailable):
        registries.poll(KEY)
    assert registries.settled(KEY), "MLflow that is away holds up no rollback"


def test_credentials_come_from_the_secret_and_a_changed_one_is_found(source: Source, clock: Clock) -> None:
    kube, used = FakeKube(), list[Mapping[str, str]]()

    def connect(_registry: ModelRegistry, given: Mapping[str, str]) -> Source:
        used.append(given)
        return source

    registries = Registries(kube, connect=connect, clock=clock)  # type: ignore[arg-type]
    registries.put(KEY, registry("mlflow"))
    with pytest.raises(Unavailable, match="no Secret mlflow in namespace default"):
        registries.poll(KEY)
    kube.create(secret(token="old", webhookSecret="hook"), manager="test")
    registries.poll(KEY)
    registries.poll(KEY)
    assert used == [{"token": "old", "webhookSecret": "hook"}]
    assert registries.webhook_secret(KEY) == "hook"
    kube.delete(SECRET, "default", "mlflow")
    kube.create(secret(token="new"), manager="test")
    clock.now += SECRET_S
    registries.poll(KEY)
    assert used[1:] == [{"token": "new"}]
    registries.drop(KEY)
    assert registries.interval_s(KEY) is None
    assert registries.webhook_secret(KEY) == ""


def test_credentials_are_never_shown() -> None:
    assert "hunter2" not in repr(Credentials(username="me", password="hunter2", token="hunter2"))
