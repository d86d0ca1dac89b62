"""Bad input is named, and nothing is written."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.data.make import WRITERS, people, prepared, rows_of, write_csv, write_images, write_jsonl

from modelyard.data import prepare as stage
from modelyard.errors import BadInput, StageFailed
from modelyard.spec.data import Checks, Column, Labels, Splits

SPEC: dict[str, Any] = {}


def bad(tmp_path: Path, told: str, source: Path | str, **spec: Any) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match=told) as error:
        prepared(tmp_path, source, **spec)
    assert error.value.do
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    bad(tmp_path, r"there is no .*gone\.csv", "gone.csv")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.npz"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    bad(tmp_path, f"{name} is empty", name)


@pytest.mark.parametrize(("name", "content"), [("a.csv", "age,label\n"), ("a.jsonl", "\n\n")])
def test_a_file_without_examples(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    bad(tmp_path, "no examples", name)


def test_a_folder_where_a_file_belongs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    bad(tmp_path, "is a folder where a csv file belongs", "a.csv", format="csv")
    bad(tmp_path, "is a folder where a csv file belongs", "a.csv")


def test_a_file_where_a_folder_of_images_belongs(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    bad(tmp_path, "is a file where a folder of images belongs", "a.png", format="images")


def test_a_format_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"x")
    bad(tmp_path, r"the format of a\.xlsx is not known.*csv, images, jsonl, npz, parquet", "a.xlsx")


def test_a_bundled_name_that_is_not_known(tmp_path: Path) -> None:
    bad(tmp_path, "no bundled data set 'iris'", "bundled:iris")


def test_an_address_of_another_kind(tmp_path: Path) -> None:
    bad(tmp_path, "no address of a store", "ftp://host/data.csv")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "age,label\n1,a\n2,b,c\n", "no CSV that can be read"),
        ("a.csv", "age,age,label\n1,2,a\n", r"names \['age'\] twice"),
        ("a.csv", "age,,label\n1,2,a\n", "a column without a name"),
        ("a.jsonl", '{"age": 1}\n{"age": \n', "line 2 .* is no JSON"),
        ("a.jsonl", '{"age": 1}\n\n[1]\n', "line 3 .* is no JSON object"),
        ("a.jsonl", '{"age": 1}\n{"age": "old"}\n', "line 2 of a.jsonl: age is text here and integer before"),
        ("a.npz", "not a zip archive", r"is no .npz that can be read"),
        ("a.parquet", "not Parquet at all", "no whole Parquet file"),
    ],
)
def test_a_broken_file(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    bad(tmp_path, told, name)


def test_a_csv_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("age,größe,label\n1,2,a\n".encode("latin-1"))
    bad(tmp_path, "is not UTF-8", "a.csv")


def test_a_truncated_parquet_is_refused_by_name(tmp_path: Path) -> None:
    path = WRITERS["parquet"](tmp_path / "a.parquet", people())
    path.write_bytes(path.read_bytes()[:-30])
    bad(tmp_path, r"a\.parquet is no whole Parquet file", "a.parquet")


def test_a_damaged_npz_is_refused_by_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).random((500, 9)), label=np.arange(500) % 2)
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[5000:5100] = bytes(100)
    (tmp_path / "a.npz").write_bytes(raw)
    bad(tmp_path, r"a\.npz is damaged in x", "a.npz")


def test_an_npz_with_pickles_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}, None], object), label=np.arange(2))
    bad(tmp_path, "holds Python objects", "a.npz")


def test_an_npz_whose_arrays_differ_in_length(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3), label=np.zeros(4))
    bad(tmp_path, "its arrays have", "a.npz")


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (1 << 24,)})
        stream.write(bytes(1 << 24))
    monkeypatch.setattr("modelyard.data.arrays.MAX_BYTES", 1 << 20)
    bad(tmp_path, "like a zip bomb", "a.npz")


def test_a_corrupt_image_is_refused_by_name(tmp_path: Path) -> None:
    write_images(tmp_path / "pets")
    path = tmp_path / "pets" / "dog" / "003.png"
    path.write_bytes(path.read_bytes()[:60])
    bad(tmp_path, r"pets/dog/003\.png is no image that can be read", "pets")
    path.write_text("no image")
    bad(tmp_path, r"pets/dog/003\.png is no image that can be read", "pets")


def test_an_image_that_is_a_bomb_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    write_images(tmp_path / "pets")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    bad(tmp_path, r"pets/cat/000\.png", "pets")


def test_images_without_a_class(tmp_path: Path) -> None:
    write_images(tmp_path / "pets")
    bad(tmp_path, "is in no class's folder", "pets/cat")
    (tmp_path / "none").mkdir()
    bad(tmp_path, "holds no images", "none")


def test_a_picture_that_a_table_names_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_csv(tmp_path / "in" / "a.csv", [{"image": "../../etc/passwd", "label": "x"}])
    bad(tmp_path, "leads out of", "in/a.csv", columns={"image": Column(type="image")})


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"labels": Labels(column="lable")}, r"data\.labels\.column: people\.csv has no column 'lable'.*label"),
        ({"features": ("agee",)}, r"data\.features\[0\].*no column 'agee'"),
        ({"splits": Splits(stratify="sex")}, r"data\.splits\.stratify"),
        ({"splits": Splits(group="sex")}, r"data\.splits\.group"),
        ({"splits": Splits(time="sex")}, r"data\.splits\.time"),
        ({"splits": Splits(time="name")}, "which is no time"),
        ({"splits": Splits(train=0.9, validation=0.2, test=0.2)}, "sum to 1.3"),
        ({"splits": Splits(train=0.98, validation=0.01, test=0.01)}, "came out empty"),
        ({"columns": {"weight": Column()}}, r"data\.columns\.weight"),
        ({"columns": {"name": Column(type="number")}}, "row 1 of people.csv: name is 'person 0', which is no number"),
        ({"columns": {"age": Column(min=30)}}, r"row \d+ of people\.csv: age is 2\d, which is below min 30"),
        ({"columns": {"age": Column(max=40)}}, r"which is above max 40 \(\d+ such values here\)"),
        ({"columns": {"label": Column(one_of=("ill",))}}, "label is 'well', which is not one of ill"),
        ({"columns": {"name": Column(min=1)}}, "do not apply to text"),
        ({"labels": Labels(classes=("ill", "dead"))}, r"row 2 of people\.csv: label is 'well', not one of"),
        ({"labels": Labels(classes=("ill", "ill", "well"))}, "names one twice"),
        ({"labels": Labels(column="height")}, r"holds \d+\.\d+, which names no class.*kind: number"),
        ({"labels": Labels(kind="number")}, "holds no numbers"),
        ({"labels": Labels(column="age", kind="text"), "columns": {"age": Column(type="integer")}}, "holds no text"),
        ({"labels": Labels(kind="text", classes=("a",))}, "classes is set but kind is text"),
        ({"features": ("age", "label")}, "holds the label"),
        ({"id": "label"}, "are both 'label'"),
        ({"id": "age"}, r"have one id, '\d+'"),
        ({"shard_size": 0}, "shardSize is 0"),
        ({"checks": Checks(fill={"age": 1.0})}, "fill is set but missing is not fill"),
    ],
)
def test_a_setting_that_does_not_fit_the_data(tmp_path: Path, spec: dict[str, Any], told: str) -> None:
    write_csv(tmp_path / "people.csv", people())
    bad(tmp_path, told, "people.csv", **spec)


def test_one_class_only(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{**row, "label": "well"} for row in people()])
    bad(tmp_path, r"label has one class only \(well\)", "a.csv")


def test_an_id_that_two_examples_have(tmp_path: Path) -> None:
    rows = people()
    rows[9]["name"] = "person 4"
    write_csv(tmp_path / "a.csv", rows)
    bad(tmp_path, r"row 5 of a\.csv and row 10 of a\.csv have one id, 'person 4'", "a.csv", id="name")


def test_an_id_that_is_missing(tmp_path: Path) -> None:
    rows = people()
    rows[9]["name"] = None
    write_csv(tmp_path / "a.csv", rows)
    bad(tmp_path, r"row 10 of a\.csv: the id is missing", "a.csv", id="name")


def test_a_column_named_id_must_be_declared(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"id": at, **row} for at, row in enumerate(people())])
    bad(tmp_path, r"has a column 'id'.*Set data\.id: id", "a.csv")
    prepared(tmp_path, "a.csv", id="id")
    assert {row["id"] for row in rows_of(tmp_path / "out")} == {str(at) for at in range(60)}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "npz"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["NaN", "infinity"])
def test_numbers_that_are_none(tmp_path: Path, kind: str, value: float) -> None:
    rows = people()
    rows[30]["height"] = value
    WRITERS[kind](tmp_path / f"a.{kind}", rows)
    bad(tmp_path, "30|31", f"a.{kind}")


def test_an_infinity_is_refused_whatever_is_done_about_missing_values(tmp_path: Path) -> None:
    rows = people()
    rows[30]["height"] = float("-inf")
    write_csv(tmp_path / "a.csv", rows)
    bad(tmp_path, "row 31 of a.csv: height is infinite", "a.csv", checks=Checks(missing="drop"))


def test_a_nan_within_an_image(tmp_path: Path) -> None:
    images = np.zeros((20, 4, 4), np.float32)
    images[13, 2, 2] = np.nan
    np.savez(tmp_path / "a.npz", image=images, label=np.arange(20) % 2)
    bad(tmp_path, "example 13 of a.npz: image is missing or NaN", "a.npz")


def test_filling_what_cannot_be_filled(tmp_path: Path) -> None:
    rows = people()
    rows[3]["age"] = rows[4]["height"] = None
    write_csv(tmp_path / "a.csv", rows)
    bad(
        tmp_path,
        r"height is missing and data\.checks\.fill has no",
        "a.csv",
        checks=Checks(missing="fill", fill={"age": 1.0}),
    )
    fill = {"age": "old", "height": 1.0}
    bad(tmp_path, r"fill\.age is 'old', which is no value", "a.csv", checks=Checks(missing="fill", fill=fill))


def test_lists_of_different_lengths(tmp_path: Path) -> None:
    rows = [{"x": [1, 2, 3][: 2 + at % 2], "label": "ab"[at % 2]} for at in range(20)]
    write_jsonl(tmp_path / "a.jsonl", [{**row, "x": [[1, 2], [3]]} for row in rows])
    bad(tmp_path, r"line 1 of a\.jsonl: x is", "a.jsonl")


def test_no_space_left_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "a.csv", people())

    class Full:
        def __init__(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pa, "OSFile", Full)
    with pytest.raises(StageFailed, match=r"No space left for .*train-00000\.arrow"):
        prepared(tmp_path, "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_read_only_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(BadInput, match="Read-only file system"):
        prepared(tmp_path, "bundled:digits")


def test_a_source_that_changes_while_it_is_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "a.csv", people())
    decide = stage.decide

    def meanwhile(*given: Any) -> Any:
        write_csv(tmp_path / "a.csv", people(50))
        return decide(*given)

    monkeypatch.setattr(stage, "decide", meanwhile)
    with pytest.raises(StageFailed, match="changed while it was read"):
        prepared(tmp_path, "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
