"""Splits: what must always hold, whatever the examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.data.split import (
    NAMES,
    check_filled,
    check_splits,
    leaks,
    split_by_group,
    split_by_share,
    split_by_time,
)
from modelyard.errors import BadInput
from modelyard.spec.data import Splits

IDS = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=120, unique=True)


@st.composite
def shares(draw: st.DrawFn) -> Splits:
    parts = [draw(st.integers(1, 10)), draw(st.integers(0, 10)), draw(st.integers(0, 10))]
    train, validation, _ = (part / sum(parts) for part in parts)
    return Splits(train=train, validation=validation, test=max(0.0, 1 - train - validation), seed=draw(st.integers()))


@given(ids=IDS, splits=shares())
def test_every_example_is_in_exactly_one_split(ids: list[str], splits: Splits) -> None:
    places = split_by_share(ids, None, splits)
    assert len(places) == len(ids)
    assert set(places.tolist()) <= {0, 1, 2}


@given(ids=IDS, splits=shares(), data=st.data())
def test_each_split_keeps_the_distribution_within_one_example(
    ids: list[str], splits: Splits, data: st.DataObject
) -> None:
    strata = [data.draw(st.sampled_from("abc")) for _ in ids]
    places = split_by_share(ids, strata, splits)
    for stratum in set(strata):
        rows = np.array([at for at, name in enumerate(strata) if name == stratum])
        for at, name in enumerate(NAMES):
            assert abs((places[rows] == at).sum() - getattr(splits, name) * len(rows)) < 1 + 1e-6


@given(ids=IDS, splits=shares(), data=st.data())
def test_the_order_of_reading_changes_nothing(ids: list[str], splits: Splits, data: st.DataObject) -> None:
    strata = [data.draw(st.sampled_from("abc")) for _ in ids]
    order = data.draw(st.permutations(range(len(ids))))
    places = split_by_share(ids, strata, splits)
    shuffled = split_by_share([ids[at] for at in order], [strata[at] for at in order], splits)
    assert [places[at] for at in order] == shuffled.tolist()


@given(groups=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=80), splits=shares(), data=st.data())
def test_a_group_is_never_split_and_order_changes_nothing(
    groups: list[str], splits: Splits, data: st.DataObject
) -> None:
    places = split_by_group(groups, splits)
    assert len({(group, int(place)) for group, place in zip(groups, places, strict=True)}) == len(set(groups))
    order = data.draw(st.permutations(range(len(groups))))
    assert split_by_group([groups[at] for at in order], splits).tolist() == [places[at] for at in order]


@given(ids=IDS, splits=shares(), data=st.data())
def test_nothing_in_train_is_later_than_anything_in_test(ids: list[str], splits: Splits, data: st.DataObject) -> None:
    times = np.array([data.draw(st.integers(0, 50)) for _ in ids], float)
    places = split_by_time(times, ids, splits)
    latest = -np.inf
    for at in range(3):
        here = times[places == at]
        assert not len(here) or here.min() >= latest
        latest = max(latest, here.max(initial=-np.inf))
    for at, name in enumerate(NAMES):
        assert abs((places == at).sum() - getattr(splits, name) * len(ids)) <= 1


def test_small_strata_do_not_all_round_the_same_way() -> None:
    """A hundred classes of three examples: each would round its share of 0.15 to none."""
    ids = [f"{at}" for at in range(300)]
    places = split_by_share(ids, [str(at // 3) for at in range(300)], Splits())
    assert 25 < (places == 2).sum() < 65
    assert 25 < (places == 1).sum() < 65


def test_another_seed_deals_anew() -> None:
    ids = [str(at) for at in range(100)]
    assert (split_by_share(ids, None, Splits(seed=1)) != split_by_share(ids, None, Splits(seed=2))).any()


def test_groups_come_close_to_the_shares() -> None:
    places = split_by_group([str(at // 5) for at in range(500)], Splits())
    assert [abs((places == at).sum() - want) <= 5 for at, want in enumerate((350, 75, 75))] == [True] * 3


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 2)), max_size=30))
def test_without_what_leaks_no_split_knows_anothers_examples(pairs: list[tuple[bytes, int]]) -> None:
    features = [feature for feature, _ in pairs]
    places = np.array([place for _, place in pairs], np.int8)
    leaked = leaks(features, places)
    kept = {(feature, int(place)) for feature, place, out in zip(features, places, leaked, strict=True) if not out}
    assert len({feature for feature, _ in kept}) == len(kept)
    assert {feature for feature, _ in kept} == set(features), "the later split keeps it"


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (Splits(train=0.7, validation=0.2, test=0.2), r"sum to 1\.1, not to 1 \(train 0\.7"),
        (Splits(train=1.2, validation=-0.2, test=0.0), "not between 0 and 1"),
        (Splits(train=0.0, validation=0.5, test=0.5), "train is 0"),
        (Splits(stratify="label", group="patient"), "stratify: label and group: patient exclude each other"),
        (Splits(time="day", group="patient"), "exclude each other"),
    ],
    ids=["shares that sum to more than 1", "a negative share", "nothing to learn from", "two ways", "two other ways"],
)
def test_splits_that_cannot_be_are_refused(splits: Splits, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        check_splits(splits)


def test_a_split_that_came_out_empty_is_named() -> None:
    with pytest.raises(BadInput, match=r"test came out empty \(0\.15 of 3 examples\)"):
        check_filled(np.array([0, 0, 1], np.int8), Splits())
    check_filled(np.array([0, 0, 1], np.int8), Splits(train=0.7, validation=0.3, test=0.0))
