"""Folds: each example is held out once in every repeat, groups whole, classes in proportion."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.data.folds import deal, write_fold
from modelyard.data.prepare import prepare
from modelyard.data.shards import SplitReader
from modelyard.errors import BadInput
from modelyard.spec.data import Data, Splits


@given(st.integers(2, 8), st.lists(st.sampled_from("xyz"), min_size=10, max_size=60), st.integers(0, 5))
def test_folds_differ_by_one_example_and_keep_the_classes(folds, strata, seed):
    places = deal([f"e{at}" for at in range(len(strata))], strata, whole=False, folds=folds, seed=seed)
    sizes = np.bincount(places, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for name in set(strata):
        of_class = np.bincount(places[np.array(strata) == name], minlength=folds)
        assert of_class.max() - of_class.min() <= 1


@given(st.lists(st.sampled_from("abcdefgh"), min_size=10, max_size=60))
def test_a_group_is_held_out_whole(groups):
    places = deal([f"e{at}" for at in range(len(groups))], groups, whole=True, folds=3, seed=0)
    assert all(len(set(places[np.array(groups) == name])) == 1 for name in set(groups))


def test_the_order_of_the_examples_does_not_matter_and_another_seed_does():
    ids, strata = [f"e{at}" for at in range(40)], ["x", "y"] * 20
    one = dict(zip(ids, deal(ids, strata, whole=False, folds=5, seed=0), strict=True))
    turned = dict(zip(ids[::-1], deal(ids[::-1], strata[::-1], whole=False, folds=5, seed=0), strict=True))
    other = dict(zip(ids, deal(ids, strata, whole=False, folds=5, seed=1), strict=True))
    assert one == turned
    assert one != other


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    rows = "\n".join(f"{at},{at * at % 17},u{at // 4},{'xyz'[at % 3]}" for at in range(60))
    (tmp_path / "data.csv").write_text(f"a,b,user,label\n{rows}\n")
    spec = Data(source="data.csv", splits=Splits(train=0.6, validation=0.2, test=0.2, group="user"))
    prepare(spec, base=tmp_path, out=tmp_path / "prepared")
    return tmp_path / "prepared"


def fold(prepared: Path, at: int, *, folds: int = 5, group: str | None = None, repeat: int = 0):
    out = prepared.parent / f"fold-{folds}-{repeat}-{at}-{group}"
    return write_fold(prepared, out, group=group, folds=folds, repeat=repeat, fold=at), out


def ids(folder: Path, split: str) -> set[str]:
    return {row["id"] for row in SplitReader(folder, split).rows()}


def test_each_example_is_held_out_once_and_nothing_is_learnt_from_it(prepared: Path) -> None:
    held: list[str] = []
    for at in range(5):
        made, out = fold(prepared, at)
        parts = {name: ids(out, name) for name in ("train", "validation", "test")}
        assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 60
        assert (made.counts["test"], made.counts["validation"]) == (12, 12)
        held += parts["test"]
    assert len(held) == len(set(held)) == 60


def test_groups_stay_whole_also_between_training_and_validation(prepared: Path) -> None:
    _, out = fold(prepared, 1, group="user")
    users = [{row["user"] for row in SplitReader(out, name).rows()} for name in ("train", "validation", "test")]
    assert sum(map(len, users)) == len(set.union(*users))


def test_normalization_is_learnt_without_what_is_held_out(prepared: Path) -> None:
    made, out = fold(prepared, 2)
    values = [row["a"] for row in SplitReader(out, "train").rows()]
    assert made.facts["normalization"]["a"]["mean"] == pytest.approx(np.mean(values))


def test_more_folds_than_examples_are_refused(prepared: Path) -> None:
    with pytest.raises(BadInput, match="60 examples are too few for 100 folds"):
        fold(prepared, 99, folds=100)
