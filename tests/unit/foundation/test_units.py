"""A unit is part of the value: without it, nothing is guessed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelyard.spec.codec import adapter
from modelyard.units import Duration, Percentage, Quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("5s", 5), ("1h30m", 5400), ("1.5m", 90), ("2d", 172800), ("0s", 0), ("1m500ms", 60.5)],
)
def test_a_duration_in_seconds(text: str, seconds: float) -> None:
    assert Duration.parse(text).seconds == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["20", "", "5 s", "-5s", "s", "5sec", "1h 30m", "5S", 20, 1.5, None, True, "٣s"])
def test_what_is_no_duration_is_told_what_to_write(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: write it with its unit, like 20ms or 1h30m"):
        Duration.parse(text)


@pytest.mark.parametrize(("text", "fraction"), [("5%", 0.05), ("0.5%", 0.005), ("100%", 1), ("0%", 0), ("250%", 2.5)])
def test_a_percentage_as_a_fraction(text: str, fraction: float) -> None:
    assert Percentage.parse(text).fraction == pytest.approx(fraction)


@pytest.mark.parametrize("text", ["5", "-5%", "5 %", "%", 0.05, "5%%", "5%\n", ".5%"])
def test_what_is_no_percentage_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a percentage"):
        Percentage.parse(text)


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), ("2", 2), ("1.5Gi", 1.5 * 2**30), ("1k", 1000), ("3M", 3e6), ("1Ti", 2**40)]
)
def test_a_quantity_in_its_base_unit(text: str, value: float) -> None:
    assert Quantity.parse(text).value == pytest.approx(value)


@pytest.mark.parametrize("text", ["1GB", "-1", "1 Gi", "", 2, "1e3"])
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        Quantity.parse(text)


def test_a_unit_is_written_as_it_was_read() -> None:
    assert adapter(Duration).dump_python(adapter(Duration).validate_python("1h30m")) == "1h30m"
    with pytest.raises(ValidationError, match="20 is not a duration"):
        adapter(Duration).validate_python(20)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int, millis: int) -> None:
    parsed = Duration.parse(f"{hours}h{minutes}m{seconds}s{millis}ms")
    assert math.isclose(parsed.seconds, hours * 3600 + minutes * 60 + seconds + millis / 1000)


@given(st.text(max_size=10))
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    for unit, number in ((Duration, "seconds"), (Percentage, "fraction"), (Quantity, "value")):
        try:
            parsed = unit.parse(text)
        except ValueError:
            continue
        assert getattr(parsed, number) >= 0
        assert parsed == text
