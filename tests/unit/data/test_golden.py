"""Golden sets, and sets of examples that must have none in common."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.data.apart import check_apart
from modelyard.data.golden import golden_data, prepare_golden
from modelyard.data.prepare import prepare
from modelyard.data.prepared import PreparedData
from modelyard.data.shards import SplitReader
from modelyard.errors import BadInput
from modelyard.spec.codec import to_json
from modelyard.spec.data import Data, Labels, Shards, Splits

ROWS = [f"{at},{at * 0.5},{'xyz'[at % 3]}" for at in range(60)]


def table(path: Path, rows: list[str], header: str = "a,b,label") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Data, Path, PreparedData]:
    spec = Data(source=str(table(tmp_path / "data.csv", ROWS)), splits=Splits(train=0.6, validation=0.2, test=0.2))
    return spec, tmp_path / "prepared", prepare(spec, base=tmp_path, out=tmp_path / "prepared")


def golden(tmp_path: Path, prepared: tuple[Data, Path, PreparedData], rows: list[str], **table_of: str) -> PreparedData:
    spec, folder, like = prepared
    table(tmp_path / "hard.csv", rows, **table_of)
    return prepare_golden(golden_data(spec, "hard.csv", like), folder, base=tmp_path, out=tmp_path / "golden")


def test_a_golden_set_is_read_with_the_classes_and_features_of_the_data(tmp_path: Path, prepared) -> None:
    made = golden(tmp_path, prepared, ["500,1.5,z", "501,2,z"], header="a,b,label")
    assert made.facts == prepared[2].facts
    rows = list(SplitReader(tmp_path / "golden", "golden").rows())
    assert [row["label"] for row in rows] == [2, 2]
    assert [row["a"] for row in rows] == [500, 501]


def test_other_columns_of_a_golden_set_do_no_harm(tmp_path: Path, prepared) -> None:
    assert golden(tmp_path, prepared, ["500,1.5,z,why"], header="a,b,label,note").counts["golden"] == 1


def test_a_golden_set_is_known_by_its_content(tmp_path: Path, prepared) -> None:
    one = golden(tmp_path, prepared, ["500,1.5,z"])
    other = prepare_golden(
        golden_data(prepared[0], str(table(tmp_path / "b.csv", ["500,1.5,y"])), prepared[2]),
        prepared[1], base=tmp_path, out=tmp_path / "other",
    )  # fmt: skip
    assert one.digests["golden"] != other.digests["golden"]


@pytest.mark.parametrize(("rows", "header", "told"), [
    (["1,2,wasp"], "a,b,label", "label is 'wasp', not one of data.labels.classes"),
    (["1,x"], "a,label", "has no column 'b'"),
    ([",2,x"], "a,b,label", "a is missing"),
])  # fmt: skip
def test_a_golden_set_that_does_not_fit_is_refused(tmp_path: Path, prepared, rows, header, told) -> None:
    with pytest.raises(BadInput, match=told):
        golden(tmp_path, prepared, rows, header=header)
    assert not (tmp_path / "golden").exists()


def test_a_golden_set_that_is_not_there_is_refused(tmp_path: Path, prepared) -> None:
    spec, folder, like = prepared
    with pytest.raises(BadInput, match=r"nope\.csv"):
        prepare_golden(golden_data(spec, "nope.csv", like), folder, base=tmp_path, out=tmp_path / "golden")


def test_golden_examples_that_were_trained_on_are_refused_by_name(tmp_path: Path, prepared) -> None:
    learnt = next(SplitReader(prepared[1], "train").rows())
    row = f"{learnt['a']},{learnt['b']},{'xyz'[learnt['label']]}"
    with pytest.raises(BadInput, match=r"1 examples of hard\.csv were trained on"):
        golden(tmp_path, prepared, ["500,1.5,z", row])


# apart


def test_the_splits_that_prepare_made_have_nothing_in_common(prepared) -> None:
    check_apart(prepared[1], "validation", "test")
    check_apart(prepared[1], "train", "test")


def test_shards_whose_validation_overlaps_the_test_split_are_refused(tmp_path: Path, prepared) -> None:
    """Variants are calibrated on the one and judged on the other."""
    _, folder, made = prepared
    overlapping = replace(made, splits={**made.splits, "validation": made.splits["test"]})
    (folder / "prepared.json").write_text(to_json(overlapping))
    with pytest.raises(BadInput, match=r"splits validation and test have 1\d examples in common, such as"):
        prepare(Data(source=Shards(shards=str(folder))), base=tmp_path, out=tmp_path / "adopted")
    assert not (tmp_path / "adopted").exists()


def test_a_golden_set_of_texts_needs_no_classes(tmp_path: Path) -> None:
    spec = Data(
        source=str(table(tmp_path / "t.csv", [f"{at},w{at}" for at in range(20)], header="a,label")),
        labels=Labels(kind="text"), splits=Splits(train=0.6, validation=0.2, test=0.2),
    )  # fmt: skip
    like = prepare(spec, base=tmp_path, out=tmp_path / "p")
    table(tmp_path / "g.csv", ["99,new"], header="a,label")
    made = prepare_golden(golden_data(spec, "g.csv", like), tmp_path / "p", base=tmp_path, out=tmp_path / "g")
    assert json.loads(to_json(made))["counts"]["golden"] == 1
