"""Who was champion when, read back from tags."""

from tests.fakes.world import FakeWorld

from modelyard.registry.champions import champions
from modelyard.registry.port import Version
from modelyard.spec.objects import moment

NOON, ONE, TWO = "2026-01-31T12:00:00Z", "2026-01-31T13:00:00.5Z", "2026-01-31T14:00:00Z"


def version(number: str, **tags: str) -> Version:
    said = {f"modelyard.champion.{name.replace('__', '.').replace('_', '-')}": at for name, at in tags.items()}
    return Version(
        model="digits", version=number, digest=f"sha256:{number}", tags={"modelyard.rollout": "stable"} | said
    )


def test_each_reign_ends_where_the_next_one_of_its_deployment_begins() -> None:
    found = champions((
        version("2", vision__digits_00002=ONE),
        version("1", vision__digits_00001=NOON, vision__digits_00003=TWO, other__digits_00001=ONE),
    ))  # fmt: skip
    assert [(one.rollout, one.namespace, one.version) for one in found if one.namespace == "vision"] == [
        ("digits-00001", "vision", "1"), ("digits-00002", "vision", "2"), ("digits-00003", "vision", "1"),
    ]  # fmt: skip
    assert [one.until for one in found if one.namespace == "vision"] == [moment(ONE), moment(TWO), None]
    assert [one.until for one in found if one.namespace == "other"] == [None]


def test_a_tag_that_is_no_time_is_left_out() -> None:
    assert champions((version("1", vision__digits_00001="yesterday"),)) == ()


def test_what_the_loop_writes_is_what_is_read() -> None:
    it = FakeWorld()
    it.wish()
    it.bring("1")
    it.bring("2")
    assert [(one.version, one.rollout) for one in champions(it.registry.versions("digits"))] == [
        ("1", "digits-00001"), ("2", "digits-00002"),
    ]  # fmt: skip
