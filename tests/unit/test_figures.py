"""Numbers in messages and reports are read by people."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.figures import duration, milliseconds, number, signed


@pytest.mark.parametrize(("value", "digits", "text"), [
    (2312.4, 3, "2,312"), (2300.0, 2, "2,300"), (0.93154, 4, "0.9315"), (0.5, 4, "0.5"), (12.0, 4, "12"),
    (1_234_567.8, 4, "1,234,568"), (0.00012345, 3, "0.000123"), (1.5e-7, 3, "1.5·10^-7"), (3.21e15, 3, "3.21·10^15"),
    (-0.0, 4, "0"), (-2312.4, 3, "-2,312"), (9.9996, 4, "10"), (math.nan, 4, "nan"), (math.inf, 4, "inf"),
])  # fmt: skip
def test_a_number_is_read_without_an_exponent_where_none_is_needed(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


@pytest.mark.parametrize(("value", "text"), [(2300.0, "2.3 s"), (412.34, "412 ms"), (0.0321, "0.0321 ms"), (0, "0 ms")])
def test_a_latency_has_the_unit_that_fits(value: float, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (-0.01, "0.0 s"), (0.44, "0.4 s"), (9.96, "10 s"), (12.4, "12 s"), (119.7, "2 min 0 s"), (200.0, "3 min 20 s"),
])  # fmt: skip
def test_a_duration_never_reads_minus_zero(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(-0.04, "0"), (0.04, "0"), (-0.26, "−0.3"), (12.0, "+12.0")])
def test_a_difference_that_rounds_to_nothing_has_no_sign(value: float, text: str) -> None:
    assert signed(value, 1) == text


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(2, 6))
def test_what_is_read_is_the_number_to_its_digits(value: float, digits: int) -> None:
    read = number(value, digits).replace(",", "")
    plain = float(re.sub(r"·10\^(-?\d+)", r"e\1", read))
    assert plain == pytest.approx(value, rel=10.0 ** (1 - digits))
    assert "e" not in read
