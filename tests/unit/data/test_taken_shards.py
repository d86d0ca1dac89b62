"""Shards that exist already, what the source's digest follows, and how shards are read."""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.unit.data.make import people, prepared, rows_of, write_csv, write_images, write_npz

from modelyard.data.prepare import SplitReader, prepare, source_digest
from modelyard.errors import BadInput, Tampered
from modelyard.spec.data import Data, Labels, Shards, Splits


def test_shards_are_taken_uncopied(tmp_path: Path) -> None:
    first = prepared(tmp_path, "bundled:digits")
    again = prepare(Data(source=Shards(shards="out")), base=tmp_path, out=tmp_path / "taken")
    assert again.fingerprint == first.fingerprint
    assert sorted(path.name for path in (tmp_path / "taken").iterdir()) == ["prepared.json", "report.json"]
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
