"""From a source to checked, split, sharded data."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.data.make import WRITERS, people, prepared, rows_of, write_csv, write_images, write_jsonl, write_npz

from modelyard.data import prepare as stage
from modelyard.data import shuffle
from modelyard.data.prepare import SplitReader, load_prepared, prepare, source_digest
from modelyard.errors import BadInput, StageFailed, Tampered
from modelyard.model.facts import Facts
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.data import Checks, Column, Data, Labels, Shards, Splits

HALVES = Splits(train=0.5, validation=0.25, test=0.25)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# what every source gives


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    rows = people()
    source = WRITERS[kind](tmp_path / f"people.{kind}", rows)
    done = prepared(tmp_path, source, id="name", splits=Splits(stratify="label"))
    assert done.facts["classes"] == ["ill", "well"]
    assert [(f["name"], f["type"]) for f in done.facts["features"]] == [
        ("age", "integer"),
        ("height", "number"),
        ("smokes", "boolean"),
    ]
    found = {row["id"]: row for row in rows_of(tmp_path / "out")}
    assert len(found) == 60
    for row in rows:
        expected = {**row, "id": row["name"], "label": ["ill", "well"].index(row["label"])}
        assert {**found[row["name"]], "name": row["name"]} == expected


def test_the_same_input_gives_the_same_bytes_in_whatever_order(tmp_path: Path) -> None:
    rows = people()
    for name, given in (("one", rows), ("again", rows), ("reversed", rows[::-1])):
        write_csv(tmp_path / f"{name}.csv", given)
        prepared(tmp_path, f"{name}.csv", out=name, shard_size=7)
    assert files(tmp_path / "one") == files(tmp_path / "again") == files(tmp_path / "reversed")


def test_of_equal_examples_with_ids_the_same_one_is_kept_in_whatever_order(tmp_path: Path) -> None:
    rows = people()
    rows += [{**row, "name": f"again {at}"} for at, row in enumerate(rows)]
    for name, given in (("one", rows), ("reversed", rows[::-1])):
        write_csv(tmp_path / f"{name}.csv", given)
        prepared(tmp_path, f"{name}.csv", out=name, id="name")
    assert files(tmp_path / "one") == files(tmp_path / "reversed")


def test_a_changed_value_under_the_same_id_changes_its_splits_digest(tmp_path: Path) -> None:
    rows = people()
    write_csv(tmp_path / "a.csv", rows)
    one = prepared(tmp_path, "a.csv", out="one", id="name")
    changed = next(iter(SplitReader(tmp_path / "one", "test").rows()))["id"]
    rows[int(changed.split()[1])]["height"] += 1
    write_csv(tmp_path / "a.csv", rows)
    two = prepared(tmp_path, "a.csv", out="two", id="name")
    assert one.digests["train"] == two.digests["train"]
    assert one.digests["test"] != two.digests["test"]
    assert one.fingerprint != two.fingerprint


def test_digits_have_one_fingerprint(tmp_path: Path) -> None:
    splits = Splits(train=0.55, validation=0.15, test=0.3, stratify="label", seed=7)
    one = prepared(tmp_path, "bundled:digits", out="one", splits=splits)
    again = prepared(tmp_path, "bundled:digits", out="again", splits=splits)
    assert files(tmp_path / "one") == files(tmp_path / "again")
    assert one == again
    assert {name: sum(shard.examples for shard in shards) for name, shards in one.splits.items()} == {
        "train": 987,
        "validation": 271,
        "test": 539,
    }
    assert one.facts["classes"] == [str(digit) for digit in range(10)]
    row = next(SplitReader(tmp_path / "one", "test").rows())
    assert row["image"].shape == (8, 8)
    assert row["image"].dtype == np.uint8


def test_a_changed_value_or_setting_changes_the_fingerprint(tmp_path: Path) -> None:
    rows = people()
    write_csv(tmp_path / "a.csv", rows)
    rows[17]["height"] += 0.001
    write_csv(tmp_path / "b.csv", rows)
    made = [
        prepared(tmp_path, "a.csv", out="1"),
        prepared(tmp_path, "b.csv", out="2"),
        prepared(tmp_path, "a.csv", out="3", splits=Splits(seed=1)),
        prepared(tmp_path, "a.csv", out="4", features=("age", "height")),
    ]
    assert len({done.fingerprint for done in made}) == 4


def test_the_fingerprint_says_nothing_of_where_the_source_lies(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", people())
    (tmp_path / "deep").mkdir()
    write_csv(tmp_path / "deep" / "b.tsv.csv", people())
    assert prepared(tmp_path, "a.csv", out="1").fingerprint == prepared(tmp_path, "deep/b.tsv.csv", out="2").fingerprint


def test_shards_hold_the_asked_number_of_examples(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", people())
    done = prepared(tmp_path, "a.csv", shard_size=10)
    assert [shard.examples for shard in done.splits["train"]] == [10, 10, 10, 10, 2]
    assert [shard.name for shard in done.splits["train"]][:2] == ["train-00000.arrow", "train-00001.arrow"]


def test_what_does_not_fit_into_memory_goes_by_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "a.jsonl", people())
    prepared(tmp_path, "a.jsonl", out="one", shard_size=7)
    monkeypatch.setattr(shuffle.Shuffle.__init__, "__kwdefaults__", {"buffer_bytes": 0})
    monkeypatch.setattr("modelyard.data.jsonl.CHUNK_BYTES", 300)
    prepared(tmp_path, "a.jsonl", out="two", shard_size=7)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_large_examples_make_smaller_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SHARD_BYTES", 640)
    done = prepared(tmp_path, "bundled:digits")
    assert max(shard.examples for shard in done.splits["train"]) == 10


def test_normalization_is_learned_from_the_training_split_alone(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", people())
    done = prepared(tmp_path, "a.csv", shard_size=7)
    ages = [row["age"] for row in rows_of(tmp_path / "out", ["train"])]
    assert done.facts["normalization"]["age"] == {
        "mean": pytest.approx(np.mean(ages)),
        "std": pytest.approx(np.std(ages)),
    }
    assert "smokes" not in done.facts["normalization"]


def test_facts_are_what_a_recipe_takes(tmp_path: Path) -> None:
    done = prepared(tmp_path, "bundled:digits")
    facts = Facts.from_json(done.facts)
    assert facts.to_json() == done.facts
    assert from_json(type(done), to_json(done)) == load_prepared(tmp_path / "out") == done


def test_numbers_can_be_predicted(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", people())
    done = prepared(
        tmp_path,
        "a.csv",
        labels=Labels(column="height", kind="number"),
        features=("age",),
        checks=Checks(leakage="keep"),
    )
    assert done.facts["classes"] == []
    row = next(SplitReader(tmp_path / "out", "test").rows())
    assert isinstance(row["height"], float)
    assert row["label"] in ("ill", "well"), "a column that is no feature is carried, for slices"


def test_text_can_be_predicted(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", people())
    prepared(tmp_path, "a.csv", labels=Labels(column="name", kind="text"))
    assert next(SplitReader(tmp_path / "out", "test").rows())["name"].startswith("person")


def test_whole_numbers_are_classes_in_the_order_of_their_values(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(48.0), label=np.arange(48) % 12)
    assert prepared(tmp_path, "a.npz").facts["classes"] == [str(at) for at in range(12)]


def test_declared_classes_keep_their_order(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", people())
    labels = Labels(classes=("well", "ill", "unknown"))
    assert prepared(tmp_path, "a.csv", labels=labels).facts["classes"] == ["well", "ill", "unknown"]


def test_groups_stay_together_and_are_no_feature(tmp_path: Path) -> None:
    rows = [{**row, "patient": f"p{at // 5}"} for at, row in enumerate(people())]
    write_csv(tmp_path / "a.csv", rows)
    done = prepared(tmp_path, "a.csv", splits=Splits(group="patient"))
    owners: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        for row in rows_of(tmp_path / "out", [split]):
            owners.setdefault(row["patient"], set()).add(split)
    assert all(len(splits) == 1 for splits in owners.values())
    assert "patient" not in [feature["name"] for feature in done.facts["features"]]


def test_the_latest_examples_are_the_test_split(tmp_path: Path) -> None:
    rows = [{**row, "day": f"2026-{1 + at % 12:02}-{1 + at % 28:02}"} for at, row in enumerate(people())]
    write_csv(tmp_path / "a.csv", rows)
    prepared(tmp_path, "a.csv", splits=Splits(time="day"))
    days = {split: [row["day"] for row in rows_of(tmp_path / "out", [split])] for split in ("train", "test")}
    assert max(days["train"]) <= min(days["test"])


def test_images_of_one_size_are_arrays_and_named_by_their_paths(tmp_path: Path) -> None:
    write_images(tmp_path / "pets")
    done = prepared(tmp_path, "pets", splits=HALVES)
    assert done.facts["classes"] == ["cat", "dog"]
    assert done.facts["features"] == [{"name": "image", "type": "image", "shape": [6, 5]}]
    columns = SplitReader(tmp_path / "out", "train").read(0)
    assert np.asarray(columns["image"]).shape == (10, 6, 5)
    assert all(name.endswith(".png") for name in columns["id"])


def test_one_coloured_image_makes_all_coloured(tmp_path: Path) -> None:
    write_images(tmp_path / "pets")
    write_images(tmp_path / "pets" / "cat" / "more", count=2, mode="RGB")
    done = prepared(tmp_path, "pets")
    assert done.facts["features"][0]["shape"] == [6, 5, 3]


def test_images_of_many_sizes_keep_their_shapes(tmp_path: Path) -> None:
    write_images(tmp_path / "pets" / "cat", size=(6, 5))
    write_images(tmp_path / "pets" / "dog", size=(7, 9), count=10)
    done = prepared(tmp_path, "pets")
    assert done.facts["features"][0]["shape"] == [None, None]
    shapes = {row["image"].shape for row in rows_of(tmp_path / "out")}
    assert shapes == {(6, 5), (7, 9)}
    assert SplitReader(tmp_path / "out", "train").take([0, 3])["image"][1].ndim == 2


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_can_name_images_beside_it(tmp_path: Path, kind: str) -> None:
    write_images(tmp_path / "pets")
    rows = [{"image": str(p.relative_to(tmp_path)), "label": p.parent.name} for p in tmp_path.glob("pets/*/*.png")]
    WRITERS[kind](tmp_path / f"a.{kind}", rows)
    done = prepared(tmp_path, f"a.{kind}", columns={"image": Column(type="image")})
    assert done.facts["features"] == [{"name": "image", "type": "image", "shape": [6, 5]}]


def test_parquet_can_hold_images_and_arrays(tmp_path: Path) -> None:
    write_images(tmp_path / "pets")
    pictures = sorted(tmp_path.glob("pets/*/*.png"))
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "image": [{"bytes": path.read_bytes(), "path": path.name} for path in pictures],
            "wave": [[float(at), 2.0, 3.0] for at in range(len(pictures))],
            "label": pa.array([path.parent.name for path in pictures]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    done = prepared(tmp_path, "a.parquet")
    assert [(f["type"], f["shape"]) for f in done.facts["features"]] == [("image", [6, 5]), ("array", [3])]


def test_the_report_counts_and_shows(tmp_path: Path) -> None:
    done = prepared(tmp_path, "bundled:digits", splits=Splits(stratify="label"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["counts"] == dict(done.counts)
    assert sum(report["balance"]["train"].values()) == done.counts["train"]
    assert sum(report["columns"]["image"]["histogram"]["counts"]) == done.counts["train"] * 64
    assert report["columns"]["image"]["max"] == 16
    assert len(report["examples"]) == 12
    assert report["examples"][0]["png"].startswith("iVBOR")


def test_progress_is_told_and_grows(tmp_path: Path) -> None:
    told: list[float] = []
    prepare(Data(source="bundled:digits"), base=tmp_path, out=tmp_path / "out", progress=lambda _, f: told.append(f))
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] <= 1


def test_preparing_again_gives_what_is_there(tmp_path: Path) -> None:
    first = prepared(tmp_path, "bundled:digits")
    assert prepared(tmp_path, "bundled:digits") == first


def test_a_folder_with_other_data_is_left_alone(tmp_path: Path) -> None:
    first = prepared(tmp_path, "bundled:digits")
    before = files(tmp_path / "out")
    with pytest.raises(BadInput, match="holds other prepared data"):
        prepared(tmp_path, "bundled:digits", splits=Splits(seed=9))
    assert files(tmp_path / "out") == before
    assert load_prepared(tmp_path / "out") == first


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="is not empty"):
        prepared(tmp_path, "bundled:digits")
    assert files(tmp_path / "out") == {"thesis.txt": b"years of work"}


# cleaning


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


# bad input: named, and nothing written

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


# shards that exist already


def test_shards_are_taken_uncopied(tmp_path: Path) -> None:
    first = prepared(tmp_path, "bundled:digits")
    again = prepare(Data(source=Shards(shards="out")), base=tmp_path, out=tmp_path / "taken")
    assert again.fingerprint == first.fingerprint
    assert sorted(files(tmp_path / "taken")) == ["prepared.json", "report.json"]
    taken = list(SplitReader(tmp_path / "taken", "test").rows())
    assert [row["id"] for row in taken] == [row["id"] for row in rows_of(tmp_path / "out", ["test"])]


def test_shards_that_are_cut_short_or_gone_are_refused(tmp_path: Path) -> None:
    done = prepared(tmp_path, "bundled:digits")
    path = tmp_path / "out" / done.splits["test"][0].name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match="is missing or cut short"):
        prepare(Data(source=Shards(shards="out")), base=tmp_path, out=tmp_path / "taken")
    with pytest.raises(BadInput, match="holds no prepared data"):
        prepare(Data(source=Shards(shards="elsewhere")), base=tmp_path, out=tmp_path / "taken")
    assert not (tmp_path / "taken").exists()


def test_settings_that_cannot_act_on_shards_are_refused(tmp_path: Path) -> None:
    prepared(tmp_path, "bundled:digits")
    labels = Labels(column="age", kind="number")
    with pytest.raises(BadInput, match=r"data\.labels is age \(number\), but .* have label \(class\)"):
        prepare(Data(source=Shards(shards="out"), labels=labels), base=tmp_path, out=tmp_path / "taken")
    with pytest.raises(BadInput, match="takes shards as they are"):
        prepare(Data(source=Shards(shards="out"), shard_size=5), base=tmp_path, out=tmp_path / "taken")


# the source's digest, for a stage's key


def test_the_sources_digest_follows_its_bytes(tmp_path: Path) -> None:
    spec = Data(source="a.csv")
    write_csv(tmp_path / "a.csv", people())
    before = source_digest(spec, base=tmp_path)
    os.utime(tmp_path / "a.csv", (1, 1))
    assert source_digest(spec, base=tmp_path) == before
    write_csv(tmp_path / "a.csv", people(61))
    assert source_digest(spec, base=tmp_path) != before
    write_images(tmp_path / "pets")
    folder = source_digest(Data(source="pets"), base=tmp_path)
    (tmp_path / "pets" / "cat" / "000.png").rename(tmp_path / "pets" / "dog" / "000.png")
    assert source_digest(Data(source="pets"), base=tmp_path) != folder
    with pytest.raises(BadInput, match="there is no"):
        source_digest(Data(source="gone"), base=tmp_path)


def test_the_digest_of_shards_is_that_of_their_record(tmp_path: Path) -> None:
    prepared(tmp_path, "bundled:digits", out="one")
    prepared(tmp_path, "bundled:digits", out="two", splits=Splits(seed=2))
    digests = [source_digest(Data(source=Shards(shards=name)), base=tmp_path) for name in ("one", "two", "one")]
    assert digests[0] == digests[2] != digests[1]
    with pytest.raises(BadInput, match="there is no"):
        source_digest(Data(source=Shards(shards="three")), base=tmp_path)


# reading


def test_a_shard_that_was_changed_is_never_read(tmp_path: Path) -> None:
    done = prepared(tmp_path, "bundled:digits")
    path = tmp_path / "out" / done.splits["test"][0].name
    raw = bytearray(path.read_bytes())
    raw[2000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Tampered, match=r"test-00000\.arrow"):
        next(SplitReader(tmp_path / "out", "test").rows())
    path.unlink()
    with pytest.raises(BadInput, match=r"no file test-00000\.arrow"):
        next(SplitReader(tmp_path / "out", "test").rows())


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    prepared(tmp_path, "bundled:digits")
    with pytest.raises(BadInput, match="no split 'dev'"):
        SplitReader(tmp_path / "out", "dev")
    with pytest.raises(BadInput, match="holds no prepared data"):
        SplitReader(tmp_path, "test")


def test_batches_and_rows_agree(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", people())
    prepared(tmp_path, "a.npz", shard_size=7)
    reader = SplitReader(tmp_path / "out", "train")
    rows = list(reader.rows())
    assert len(reader) == len(rows) == sum(reader.lengths) == 42
    assert [row["id"] for row in reader.rows(5, 9)] == [row["id"] for row in rows[5:9]]
    order = [41, 0, 13, 13, 14, 7]
    batch = reader.take(order)
    assert batch["id"] == [rows[at]["id"] for at in order]
    assert np.asarray(batch["age"]).tolist() == [rows[at]["age"] for at in order]
    assert reader.take([])["id"] == []


def test_a_batch_may_be_written_to_and_the_shard_not(tmp_path: Path) -> None:
    prepared(tmp_path, "bundled:digits")
    reader = SplitReader(tmp_path / "out", "train")
    batch = np.asarray(reader.take([3, 4])["image"])
    batch += 1
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(reader.read(0)["image"])[0] = 1


def test_no_more_than_a_few_shards_are_open(tmp_path: Path) -> None:
    prepared(tmp_path, "bundled:digits", shard_size=50)
    reader = SplitReader(tmp_path / "out", "train")
    for shard in range(len(reader.shards)):
        reader.read(shard)
    assert len(reader._open) == 4
