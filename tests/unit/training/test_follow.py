"""A log that is read again from its last second: every line once."""

from hypothesis import given
from hypothesis import strategies as st

from modelyard.training.follow import Cursor, padded


@given(
    steps=st.lists(st.sampled_from([0, 0, 1, 400_000_000]), min_size=1, max_size=40),
    cuts=st.lists(st.integers(min_value=0, max_value=40), max_size=6),
)
def test_every_line_is_had_once_wherever_the_connection_breaks(steps: list[int], cuts: list[int]) -> None:
    instant, times = 0, []
    for step in steps:
        instant += step
        stamp = f"2026-01-02T03:04:{instant // 10**9:02d}.{instant % 10**9:09d}".rstrip("0").rstrip(".")
        times.append(f"{stamp}Z")
    cursor, had = Cursor(), []
    for end in (*cuts, len(times)):
        cursor.again()
        since = cursor.since[:19]
        had += [number for number, time in enumerate(times[:end]) if time[:19] >= since and cursor.fresh(time)]
    assert sorted(had) == list(range(len(times)))
    assert had == sorted(had)


def test_times_sort_as_text_once_they_are_padded() -> None:
    assert padded("2026-01-02T03:04:05Z") < padded("2026-01-02T03:04:05.000000001Z") < padded("2026-01-02T03:04:05.1Z")
