"""Digests of examples: equal values, equal digests; nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelyard.data.columns import Columns, Values, example_digests, put, take

NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20)


@given(NUMBERS)
def test_two_whole_numbers_share_a_digest_only_when_they_are_equal(values: list[int]) -> None:
    digests = example_digests({"x": np.array(values, np.int64)}, ["x"])
    assert len(set(digests)) == len(set(values))


def test_a_number_has_one_digest_however_it_is_written() -> None:
    for values in (np.array([3, 0]), np.array([3.0, 0.0]), np.array([3.0, -0.0])):
        assert example_digests({"x": values}, ["x"]) == example_digests({"x": np.array([3.0, 0.0])}, ["x"])


def test_values_do_not_run_into_each_other() -> None:
    """`ab` and `c` is not `a` and `bc`; a missing text is no empty one; a shape is part of an image."""
    one: Columns = {"a": ["ab", "", "x"], "b": ["c", "y", ""]}
    other: Columns = {"a": ["a", None, "x"], "b": ["bc", "y", None]}
    assert not set(example_digests(one, "ab")) & set(example_digests(other, "ab"))
    wide, high = np.zeros((1, 2, 3), np.uint8), np.zeros((1, 3, 2), np.uint8)
    assert example_digests({"x": wide}, "x") != example_digests({"x": high}, "x")
    assert example_digests({"x": [wide[0]]}, "x") == example_digests({"x": wide}, "x")


@given(st.permutations(range(6)), st.integers(1, 5))
def test_put_joins_what_take_took_apart(order: list[int], cut: int) -> None:
    columns: Columns = {
        "x": np.arange(6.0),
        "image": np.arange(24).reshape(6, 2, 2),
        "text": list("abcdef"),
        "mixed": [np.zeros((at, 2)) for at in range(6)],
    }
    joined: Columns = {}
    rows = np.array(order)
    for part in (rows[:cut], rows[cut:]):
        for name, values in columns.items():
            put(joined, name, part, take(values, part), count=6)
    for name, values in columns.items():
        for one, whole in zip(joined[name], values, strict=True):
            np.testing.assert_array_equal(one, whole)


def test_shards_of_one_shape_each_join_to_a_list() -> None:
    joined: Columns = {}
    pieces: list[Values] = [np.zeros((2, 3, 3)), np.ones((1, 5, 5))]
    put(joined, "image", np.array([0, 2]), pieces[0], count=3)
    put(joined, "image", np.array([1]), pieces[1], count=3)
    assert [np.asarray(image).shape for image in joined["image"]] == [(3, 3), (5, 5), (3, 3)]
