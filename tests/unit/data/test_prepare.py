"""From a source to checked, split, sharded data."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.data.make import WRITERS, people, prepared, rows_of, write_csv, write_images, write_jsonl

from modelyard.data import prepare as stage
from modelyard.data import shuffle
from modelyard.data.prepare import SplitReader, load_prepared, prepare
from modelyard.errors import BadInput
from modelyard.model.facts import Facts
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.data import Checks, Column, Data, Labels, Splits

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
