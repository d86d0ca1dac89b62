"""Sources and shards in a bucket, against a real S3 server (moto)."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import numpy as np
import pytest
from tests.unit.data.make import people, write_csv, write_images

from modelyard.data.prepare import SplitReader, load_prepared, prepare, source_digest
from modelyard.errors import BadInput, Tampered, Unavailable
from modelyard.processes import free_port, spawn, wait_until
from modelyard.spec.data import Data, Shards, Splits
from modelyard.storage.folder import FolderStore
from modelyard.storage.port import Store, open_store

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    child = spawn(argv, log=tmp_path_factory.mktemp("moto") / "log")

    def up() -> bool:
        assert child.alive(), child.tail()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(up, deadline_s=120, what="moto")
    yield f"http://127.0.0.1:{port}"
    child.stop(grace=1)


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MODELYARD_SHARD_CACHE": "0",  # what a test reads comes from its bucket
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    """A bucket of its own that keeps versions."""
    name = f"bucket-{abs(hash(request.node.name)) % 10**10}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def put(s3: Any, bucket: str, folder: Path, prefix: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return open_store(f"s3://{request.getfixturevalue('bucket')}/below/here")


def test_a_store_gives_back_what_was_put(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    for key in ("x/2", "x/1", "y"):
        store.write(key, tmp_path / "a")
    assert [(stored.key, stored.bytes) for stored in store.list()] == [("x/1", 5), ("x/2", 5), ("y", 5)]
    assert [stored.key for stored in store.list("x/")] == ["x/1", "x/2"]
    assert store.read("x/1") == b"bytes"
    with store.opened("y") as path:
        assert path.read_bytes() == b"bytes"


def test_a_key_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(BadInput, match="gone"):
        store.read("gone")
    with pytest.raises(BadInput, match="gone"), store.opened("gone"):
        pass


def test_a_version_names_its_bytes_for_good(bucket: str, s3: Any, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/p")
    (tmp_path / "a").write_bytes(b"first")
    first = store.write("a", tmp_path / "a")
    (tmp_path / "a").write_bytes(b"second")
    store.write("a", tmp_path / "a")
    assert store.read("a", version=first.version) == b"first"
    assert store.read("a") == b"second"
    with store.opened("a", version=first.version) as path:
        assert path.read_bytes() == b"first"


def test_a_table_in_a_bucket_gives_the_same_data_as_on_disk(bucket: str, s3: Any, tmp_path: Path) -> None:
    write_csv(tmp_path / "people.csv", people())
    s3.upload_file(str(tmp_path / "people.csv"), bucket, "in/people.csv")
    here = prepare(Data(source="people.csv"), base=tmp_path, out=tmp_path / "here")
    there = prepare(Data(source=f"s3://{bucket}/in/people.csv"), base=tmp_path, out=tmp_path / "there")
    assert here.fingerprint == there.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "people.csv", "there"]


def test_a_folder_of_images_in_a_bucket(bucket: str, s3: Any, tmp_path: Path) -> None:
    put(s3, bucket, write_images(tmp_path / "pets"), "pets")
    here = prepare(Data(source="pets"), base=tmp_path, out=tmp_path / "here")
    there = prepare(Data(source=f"s3://{bucket}/pets"), base=tmp_path, out=tmp_path / "there")
    assert here.fingerprint == there.fingerprint


def test_an_object_whose_key_leads_out_is_refused(bucket: str, s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="pets/../../../../evil.png", Body=b"x")
    with pytest.raises(BadInput, match="leads out"):
        prepare(Data(source=f"s3://{bucket}/pets", format="images"), base=tmp_path, out=tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil.png"))


def test_shards_are_taken_by_object_version_uncopied(bucket: str, s3: Any, tmp_path: Path) -> None:
    first = prepare(Data(source="bundled:digits", shard_size=200), base=tmp_path, out=tmp_path / "made")
    put(s3, bucket, tmp_path / "made", "digits")
    taken = prepare(Data(source=Shards(shards=f"s3://{bucket}/digits")), base=tmp_path, out=tmp_path / "taken")
    assert taken.fingerprint == first.fingerprint
    assert all(shard.version for shards in taken.splits.values() for shard in shards)
    assert sorted(path.name for path in (tmp_path / "taken").iterdir()) == ["prepared.json", "report.json"]
    key = f"digits/{taken.splits['test'][0].name}"
    s3.put_object(Bucket=bucket, Key=key, Body=b"overwritten since")
    reader, local = SplitReader(tmp_path / "taken", "test"), SplitReader(tmp_path / "made", "test")
    assert [row["id"] for row in reader.rows()] == [row["id"] for row in local.rows()]
    np.testing.assert_array_equal(reader.take([3, 250, 1])["image"], local.take([3, 250, 1])["image"])
    assert load_prepared(tmp_path / "taken").location == f"s3://{bucket}/digits"


def test_a_shard_that_was_overwritten_where_no_versions_are_kept_is_noticed(s3: Any, tmp_path: Path) -> None:
    s3.create_bucket(Bucket="plain")
    prepare(Data(source="bundled:digits"), base=tmp_path, out=tmp_path / "made")
    put(s3, "plain", tmp_path / "made", "digits")
    taken = prepare(Data(source=Shards(shards="s3://plain/digits")), base=tmp_path, out=tmp_path / "taken")
    s3.put_object(Bucket="plain", Key=f"digits/{taken.splits['test'][0].name}", Body=b"overwritten since")
    with pytest.raises(Tampered, match="cut short or changed"):
        next(SplitReader(tmp_path / "taken", "test").rows())


def test_shards_are_kept_on_the_machine_for_the_next_epoch_and_for_its_other_ranks(
    bucket: str, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(Data(source="bundled:digits", shard_size=100), base=tmp_path, out=tmp_path / "made")
    put(s3, bucket, tmp_path / "made", "digits")
    taken = prepare(Data(source=Shards(shards=f"s3://{bucket}/digits")), base=tmp_path, out=tmp_path / "taken")
    shards = taken.splits["train"]
    assert len(shards) > 6
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    room = 3 * max(shard.bytes for shard in shards)
    monkeypatch.setenv("MODELYARD_SHARD_CACHE", str(room))
    first = [row["id"] for row in SplitReader(tmp_path / "taken", "train").rows()]
    (folder,) = (tmp_path / "tmp").glob("modelyard-shards-*")
    names = {path.name: path.stat().st_size for path in folder.iterdir() if path.suffix != ".lock"}
    assert sum(names.values()) <= room
    assert set(names) == {shard.digest.removeprefix("sha256:") for shard in shards[-len(names) :]}
    monkeypatch.setenv("MODELYARD_SHARD_CACHE", "1Gi")
    assert [row["id"] for row in SplitReader(tmp_path / "taken", "train").rows()] == first
    for shard in shards:
        s3.delete_object(Bucket=bucket, Key=f"digits/{shard.name}", VersionId=shard.version)
    assert [row["id"] for row in SplitReader(tmp_path / "taken", "train").rows()] == first
    (folder / shards[0].digest.removeprefix("sha256:")).write_bytes(b"something else")
    with pytest.raises(Tampered, match="cut short or changed"):
        next(SplitReader(tmp_path / "taken", "train").rows())
    assert shards[0].digest.removeprefix("sha256:") not in {path.name for path in folder.iterdir()}


LARGE = bytes(range(256)) * 40_000
"""10 MB: more than one part."""


@pytest.mark.parametrize("body", [b"bytes", LARGE], ids=["one request", "in parts"])
def test_what_is_named_by_its_digest_is_written_once(bucket: str, s3: Any, tmp_path: Path, body: bytes) -> None:
    """By the server's own condition: of two writers one is first, and the other's bytes go nowhere."""
    store = open_store(f"s3://{bucket}/p")
    (tmp_path / "a").write_bytes(body)
    first = store.write("a", tmp_path / "a", once=True)
    (tmp_path / "a").write_bytes(body + b"!")
    again = store.write("a", tmp_path / "a", once=True)
    assert (again.version, again.bytes) == (first.version, len(body))
    assert first.version
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1
    assert store.write("a", tmp_path / "a").version != first.version
    assert store.read("a") == body + b"!"


@pytest.mark.parametrize("body", [b"bytes", LARGE], ids=["one request", "in parts"])
def test_the_server_is_told_how_to_encrypt(
    bucket: str, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    (tmp_path / "a").write_bytes(body)
    store, recorded = open_store(f"s3://{bucket}"), {}
    for algorithm, key in (("AES256", ""), ("aws:kms", "arn:aws:kms:us-east-1:1:key/k")):
        monkeypatch.setenv("MODELYARD_S3_ENCRYPTION", algorithm)
        monkeypatch.setenv("MODELYARD_S3_KMS_KEY", key)
        store.write("a", tmp_path / "a")
        head = s3.head_object(Bucket=bucket, Key="a")
        recorded[head["ServerSideEncryption"]] = head.get("SSEKMSKeyId", "")
        assert store.read("a") == body
    assert recorded == {"AES256": "", "aws:kms": "arn:aws:kms:us-east-1:1:key/k"}


@pytest.mark.parametrize("body", [b"bytes", LARGE], ids=["one request", "in parts"])
def test_bytes_that_are_not_those_that_were_put_are_noticed(bucket: str, s3: Any, tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a").write_bytes(body)
    store = open_store(f"s3://{bucket}")
    store.write("a", tmp_path / "a")
    told = s3.head_object(Bucket=bucket, Key="a")["Metadata"]
    s3.put_object(Bucket=bucket, Key="a", Body=body[::-1], Metadata=told)
    with pytest.raises(Tampered, match=r"that it was put with\. Find out who changed the store"):
        store.read("a")
    with pytest.raises(Tampered, match="that it was put with"), store.opened("a"):
        pass


@pytest.mark.parametrize("versions", [True, False], ids=["with versions", "without"])
def test_the_sources_digest_follows_the_bucket(bucket: str, s3: Any, tmp_path: Path, versions: bool) -> None:
    if not versions:
        bucket = f"{bucket}-plain"
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="in/a.csv", Body=b"a,label\n1,x\n")
    spec = Data(source=f"s3://{bucket}/in/a.csv", splits=Splits())
    before = source_digest(spec, base=tmp_path)
    assert source_digest(spec, base=tmp_path) == before
    s3.put_object(Bucket=bucket, Key="in/a.csv", Body=b"a,label\n2,x\n")
    assert source_digest(spec, base=tmp_path) != before


def test_what_is_not_in_the_bucket_is_named(bucket: str, tmp_path: Path) -> None:
    for uri, told in (
        (f"s3://{bucket}/in/gone.csv", "there is nothing at"),
        ("s3://no-such-bucket/in/a.csv", "no bucket 'no-such-bucket'"),
        ("s3:///a.csv", "names no bucket"),
    ):
        with pytest.raises(BadInput, match=told):
            prepare(Data(source=uri), base=tmp_path, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_away_is_unavailable(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="is away"):
        prepare(Data(source="s3://bucket/a.csv"), base=tmp_path, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_missing_credentials_are_named(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(BadInput, match="AWS_ACCESS_KEY_ID"):
        prepare(Data(source="s3://bucket/a.csv"), base=tmp_path, out=tmp_path / "out")
