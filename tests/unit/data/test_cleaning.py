"""Duplicates, missing values and leakage: dropped, filled or refused, each counted."""

from pathlib import Path

import pytest
from tests.unit.data.make import people, prepared, rows_of, write_csv

from modelyard.errors import BadInput
from modelyard.spec.data import Checks


def test_equal_examples_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = people()
    write_csv(tmp_path / "a.csv", [*rows, *rows[:5]])
    done = prepared(tmp_path, "a.csv")
    assert (done.counts["read"], done.counts["duplicates"]) == (65, 5)
    assert len(rows_of(tmp_path / "out")) == 60


def test_equal_examples_are_refused_with_their_row(tmp_path: Path) -> None:
    rows = people()
    write_csv(tmp_path / "a.csv", [*rows, rows[7]])
    with pytest.raises(BadInput, match=r"row 61 of a\.csv occurs twice"):
        prepared(tmp_path, "a.csv", checks=Checks(duplicates="refuse"))


def test_equal_examples_that_are_kept_have_ids_of_their_own(tmp_path: Path) -> None:
    rows = people()
    write_csv(tmp_path / "a.csv", [*rows, rows[7], rows[7]])
    checks = Checks(duplicates="keep", leakage="drop")
    prepared(tmp_path, "a.csv", checks=checks)
    ids = [row["id"] for row in rows_of(tmp_path / "out")]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 60


def test_missing_values_are_refused_with_row_and_column(tmp_path: Path) -> None:
    rows = people()
    rows[41]["age"] = None
    write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(BadInput, match=r"row 42 of a\.csv: age is missing or NaN.*missing to drop or fill"):
        prepared(tmp_path, "a.csv")
    assert not (tmp_path / "out").exists()


def test_examples_with_missing_values_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = people()
    rows[3]["age"] = rows[4]["label"] = None
    write_csv(tmp_path / "a.csv", rows)
    done = prepared(tmp_path, "a.csv", checks=Checks(missing="drop"))
    assert (done.counts["missing"], len(rows_of(tmp_path / "out"))) == (2, 58)


def test_missing_values_are_filled_and_counted(tmp_path: Path) -> None:
    rows = people()
    rows[3]["age"] = rows[4]["age"] = rows[5]["name"] = None
    write_csv(tmp_path / "a.csv", rows)
    done = prepared(tmp_path, "a.csv", checks=Checks(missing="fill", fill={"age": -1.0, "name": "nobody"}))
    assert done.counts["filled"] == 3
    found = rows_of(tmp_path / "out")
    assert sorted(row["age"] for row in found)[:3][:2] == [-1, -1]
    assert sum(row["name"] == "nobody" for row in found) == 1


def test_leakage_across_splits_is_refused_with_both_places(tmp_path: Path) -> None:
    rows = people()
    write_csv(tmp_path / "a.csv", rows + rows)
    with pytest.raises(BadInput, match=r"row \d+ of a\.csv in train has the same features as row \d+ of a\.csv in"):
        prepared(tmp_path, "a.csv", checks=Checks(duplicates="keep"))


def test_leakage_is_dropped_from_the_earlier_split(tmp_path: Path) -> None:
    rows = people()
    write_csv(tmp_path / "a.csv", rows + rows)
    done = prepared(tmp_path, "a.csv", checks=Checks(duplicates="keep", leakage="drop"))
    assert done.counts["leakage"] > 0
    names = {
        split: {row["name"] for row in rows_of(tmp_path / "out", [split])} for split in ("train", "validation", "test")
    }
    assert not names["train"] & names["test"]
    assert not names["train"] & names["validation"]
    assert not names["validation"] & names["test"]


def test_one_class_that_has_two_labels_leaks_too(tmp_path: Path) -> None:
    """Equal features with another label are no duplicates, but must not lie in two splits."""
    rows = people(200)
    twins = [{**row, "label": "ill" if row["label"] == "well" else "well"} for row in rows]
    write_csv(tmp_path / "a.csv", rows + twins)
    with pytest.raises(BadInput, match="same features"):
        prepared(tmp_path, "a.csv")
