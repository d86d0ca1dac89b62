"""The init container: which bytes it takes from where, and what it says when it cannot."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.fakes.small_model import entries_of, small_package

from modelyard.packaging.archive import write_archive
from modelyard.packaging.package import Package
from modelyard.packaging.signing import public_text, sign, signing_key
from modelyard.serving.fetch import main
from modelyard.spec.codec import to_json
from modelyard.storage.atomic import digest_bytes, digest_file

API = "/api/2.0/mlflow"
BYTES = b"an archive"


class FakeMLflow:
    """The four requests that fetching makes, answered as MLflow 3 does."""

    def __init__(self) -> None:
        self.archive = BYTES
        self.location = "mlflow-artifacts:/1/models/m-1/artifacts"
        self.source = "models:/m-1"
        self.down = 0
        """So many requests are answered 503."""
        self.seen: list[str] = []
        self.authorization: set[str | None] = set()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, body = fake.answer(self.path, self.headers.get("authorization"))
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, target: str, authorization: str | None) -> tuple[int, bytes]:
        place, query = urlsplit(target), parse_qs(urlsplit(target).query)
        self.seen.append(place.path)
        self.authorization.add(authorization)
        if self.down > 0:
            self.down -= 1
            return 503, b"{}"
        folder = "1/models/m-1/artifacts/archive"
        root = "/api/2.0/mlflow-artifacts/artifacts"
        answers: dict[str, Any] = {
            f"{API}/model-versions/get": {"model_version": {"source": self.source}},
            f"{API}/logged-models/m-1": {"model": {"info": {"artifact_uri": self.location}}},
            root: {"files": [{"path": "digits.mar", "is_dir": False}]} if query.get("path") == [folder] else {},
        }
        if place.path == f"{root}/{folder}/digits.mar":
            return 200, self.archive
        if place.path not in answers or query.get("version", ["7"]) != ["7"]:
            return 404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'
        return 200, json.dumps(answers[place.path]).encode()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def mlflow() -> Iterator[FakeMLflow]:
    fake = FakeMLflow()
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("packed"), "Moody")


def run(
    mlflow: FakeMLflow, folder: Path, *more: str, digest: str = "", version: str = "7"
) -> tuple[int, dict[str, str]]:
    log = folder / "termination-log"
    log.write_text("")
    code = main(
        [
            f"--tracking-uri={mlflow.url}", "--model=digits", f"--version={version}",
            f"--digest={digest or digest_bytes(BYTES)}", f"--out={folder / 'model.mar'}", f"--termination-log={log}",
            "--patience=0", *more,
        ]
    )  # fmt: skip
    return code, json.loads(log.read_text() or "{}")


def test_the_archive_comes_through_mlflow_s_proxy_and_a_second_start_needs_no_registry(
    mlflow: FakeMLflow, tmp_path: Path
) -> None:
    assert run(mlflow, tmp_path) == (0, {})
    assert (tmp_path / "model.mar").read_bytes() == BYTES
    mlflow.down = 100
    assert run(mlflow, tmp_path) == (0, {})


def test_other_bytes_are_never_left_where_they_could_serve(mlflow: FakeMLflow, tmp_path: Path) -> None:
    mlflow.archive = b"other bytes"
    code, why = run(mlflow, tmp_path)
    assert (code, why["reason"]) == (65, "DigestMismatch")
    assert digest_bytes(BYTES) in why["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["termination-log"]


def test_an_archive_that_was_changed_in_the_pod_is_fetched_anew(mlflow: FakeMLflow, tmp_path: Path) -> None:
    (tmp_path / "model.mar").write_bytes(b"changed")
    assert run(mlflow, tmp_path)[0] == 0
    assert digest_file(tmp_path / "model.mar") == digest_bytes(BYTES)


def test_a_registry_that_is_away_says_so_and_is_tried_again(mlflow: FakeMLflow, tmp_path: Path) -> None:
    mlflow.down = 1
    code, why = run(mlflow, tmp_path)
    assert (code, why["reason"]) == (75, "RegistryUnavailable")
    mlflow.down = 1
    assert run(mlflow, tmp_path, "--patience=5")[0] == 0


@pytest.mark.parametrize("spoil", ["version", "source", "location", "listing"])
def test_what_is_not_there_says_so(mlflow: FakeMLflow, tmp_path: Path, spoil: str) -> None:
    """A missing archive gave a running server with no model (kserve #1914)."""
    if spoil == "source":
        mlflow.source = "runs:/1/model"
    elif spoil == "location":
        mlflow.location = "/home/somebody/mlruns"
    elif spoil == "listing":
        mlflow.location = "mlflow-artifacts:/elsewhere"
    code, why = run(mlflow, tmp_path, version="8" if spoil == "version" else "7")
    assert (code, why["reason"]) == (66, "ArtifactMissing")


def test_credentials_come_from_the_environment(
    mlflow: FakeMLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    assert run(mlflow, tmp_path)[0] == 0
    assert mlflow.authorization == {"Bearer secret"}


@pytest.mark.parametrize(
    ("signature", "code"), [("trusted, required", 0), ("trusted", 0), ("required", 65), ("neither", 0)]
)
def test_a_signature_is_verified_where_keys_are_trusted_or_it_is_required(
    mlflow: FakeMLflow, packed: Package, tmp_path: Path, signature: str, code: int
) -> None:
    key = signing_key(tmp_path / "key.pem")
    entries = entries_of(packed.archive)
    entries["manifest.sig"] = to_json(sign(entries["manifest.json"], key)).encode()
    archive = tmp_path / "signed.mar"
    write_archive(archive, entries)
    mlflow.archive = archive.read_bytes()
    trust = [f"--trust={public_text(key)}"] if "trusted" in signature else []
    required = ["--require-signature"] if "required" in signature else []
    assert run(mlflow, tmp_path, *trust, *required, digest=digest_file(archive))[0] == code


@pytest.mark.process
def test_an_archive_in_a_bucket_is_taken_from_there(
    mlflow: FakeMLflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.Session().client("s3")
    client.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.put_object(Bucket="models", Key="1/m-1/artifacts/archive/digits.mar", Body=BYTES)
    mlflow.location = "s3://models/1/m-1/artifacts"
    try:
        assert run(mlflow, tmp_path) == (0, {})
        assert (tmp_path / "model.mar").read_bytes() == BYTES
    finally:
        server.stop()
