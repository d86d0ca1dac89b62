"""Ranges: the messages show the number and what it should be."""

from collections.abc import Iterator

from modelyard.spec.problem import FieldPath, Problem
from modelyard.units import Duration


def at_least(least: int, number: int, at: FieldPath) -> Iterator[Problem]:
    """`number` is a whole number from `least`."""
    if number < least:
        yield Problem(field=at, message=f"{number} is less than {least}")


def between(
    low: float, number: float, high: float, at: FieldPath, *, low_open: bool = False, high_open: bool = False
) -> Iterator[Problem]:
    """`number` is finite and lies between the two; an open end is not allowed itself."""
    above = number > low if low_open else number >= low
    below = number < high if high_open else number <= high
    if not (above and below):
        ends = f"{'above' if low_open else 'from'} {low:g} {'and below' if high_open else 'to'} {high:g}"
        yield Problem(field=at, message=f"{number:g} is out of range; it must be {ends}")


def positive(length: Duration, at: FieldPath) -> Iterator[Problem]:
    """`length` is more than no time at all."""
    if length.seconds <= 0:
        yield Problem(field=at, message=f"{length} is no time at all; it must be more than 0")
