"""A store that is a bucket."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from modelyard.errors import BadInput, Tampered
from modelyard.storage.atomic import digest_bytes, digest_file, scratch
from modelyard.storage.port import Stored
from modelyard.storage.s3.answers import ERRORS, WORDLESS, Cut, NotKnown, Taken, code_of, explained, root_of
from modelyard.storage.s3.encryption import encryption

T = TypeVar("T")
SETTINGS = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 4, "mode": "standard"})
TRANSFER = TransferConfig(max_io_queue=100)
"""boto3's own: parts of 8 MB, ten at once. Its queue to the disk would hold 256 MB; this one 25."""
TRIES = 3
"""Of a read whose bytes did not arrive whole, beside those that boto3 makes of each request."""
ENDED = "after-call.s3.CompleteMultipartUpload"
DIGEST = "sha256"
"""Metadata of an object: the digest that its bytes had when they were put, which covers what lies in parts as well."""


class S3Store:
    """Objects below `s3://bucket/prefix`; endpoint, CA and credentials come from the usual AWS_* variables."""

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise BadInput(f"{uri} names no bucket", do="write s3://bucket/prefix")
        self.uri = uri.rstrip("/")
        self._bucket = bucket
        self._prefix = prefix.rstrip("/")
        self._made: dict[bool, Any] = {}

    def _client(self, *, once: bool = False) -> Any:
        """A client of a session of its own: the default one keeps credentials that were taken back."""
        if once not in self._made:
            client = boto3.Session().client("s3", config=SETTINGS)
            if once:  # boto3's transfers take no condition, so it is put onto the requests that they end in
                for operation in ("PutObject", "CompleteMultipartUpload"):
                    client.meta.events.register(f"provide-client-params.s3.{operation}", _unless_there)
            self._made[once] = client
        return self._made[once]

    def __getstate__(self) -> dict[str, Any]:
        """Survive the way to a loader's worker: each process makes its own client."""
        return {**self.__dict__, "_made": {}}

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Objects whose key begins with `prefix`, by key, each with its newest version."""
        begins = self._key(prefix)
        listed = self._ask(prefix, lambda: self._versions(begins))
        for key in sorted(listed):
            size, version, tag = listed[key]
            yield Stored(key=self._relative(key), bytes=size, version=version, tag=tag)

    def read(self, key: str, *, version: str = "") -> bytes:
        """The bytes of one object.

        Raises:
            Tampered: they are not those that were put.
        """

        def read() -> bytes:
            answer = self._client().get_object(**self._named(key, version))
            body: bytes = answer["Body"].read()
            self._verify(key, answer, lambda: digest_bytes(body))
            return body

        return self._whole(key, read)

    @contextmanager
    def opened(self, key: str, *, version: str = "") -> Iterator[Path]:
        """The object as a file of its own, which is unlinked when the block ends; what maps it goes on reading it.

        Raises:
            Tampered: its bytes are not those that were put.
        """
        with scratch(Path(tempfile.gettempdir()) / "modelyard-s3") as folder:
            path = folder / Path(key).name

            def fetch() -> None:
                client, named = self._client(), {"VersionId": version} if version else None
                head = client.head_object(**self._named(key, version))
                client.download_file(self._bucket, self._key(key), str(path), ExtraArgs=named, Config=TRANSFER)
                self._verify(key, head, lambda: digest_file(path))

            self._whole(key, fetch)
            yield path

    def write(self, key: str, source: Path, *, once: bool = False) -> Stored:
        """Put a file; an object appears whole or not at all."""
        settings = {"Metadata": {DIGEST: digest_file(source).removeprefix("sha256:")}, **encryption()}
        if once:
            with suppress(NotKnown):
                return self._whole(key, lambda: self._put_once(key, source, settings))
            with suppress(BadInput):
                return self._stored(key, self._ask(key, lambda: self._client().head_object(**self._named(key))))
        return self._whole(key, lambda: self._put(self._client(), key, source, settings))

    def _put_once(self, key: str, source: Path, settings: Mapping[str, Any]) -> Stored:
        try:
            return self._ask(key, lambda: self._put(self._client(once=True), key, source, settings))
        except Taken:
            return self._stored(key, self._client().head_object(**self._named(key)))

    def _put(self, client: Any, key: str, source: Path, settings: Mapping[str, Any]) -> Stored:
        size = source.stat().st_size
        if size < TRANSFER.multipart_threshold:
            with source.open("rb") as body:
                answer = client.put_object(**self._named(key), Body=body, **settings)
            return self._stored(key, {**answer, "ContentLength": size})
        answer = {}

        def hear(parsed: Mapping[str, Any], **_: Any) -> None:
            """Of several uploads at once, this one's: boto3's transfer gives no answer, and a HEAD may cost seconds."""
            if parsed.get("Key") == self._key(key):
                answer.update(parsed)

        client.meta.events.register(ENDED, hear)
        try:
            client.upload_file(str(source), self._bucket, self._key(key), ExtraArgs=settings, Config=TRANSFER)
        finally:
            client.meta.events.unregister(ENDED, hear)
        return self._stored(key, {**answer, "ContentLength": size})

    def _stored(self, key: str, answer: Mapping[str, Any]) -> Stored:
        version = _version(answer.get("VersionId"))
        return Stored(key=key, bytes=answer["ContentLength"], version=version, tag=answer.get("ETag", ""))

    def _versions(self, begins: str) -> dict[str, tuple[int, str, str]]:
        """Key → size, version and tag; a bucket (or server) without versions gives empty ones."""
        found: dict[str, tuple[int, str, str]] = {}
        client = self._client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=begins):
            for item in page.get("Contents", ()):
                found[item["Key"]] = (item["Size"], "", item["ETag"])
        if client.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled":
            for page in client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=begins):
                for item in page.get("Versions", ()):
                    if item["IsLatest"] and item["Key"] in found:
                        found[item["Key"]] = (item["Size"], _version(item["VersionId"]), item["ETag"])
        return found

    def _named(self, key: str, version: str = "") -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(key), **({"VersionId": version} if version else {})}

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _relative(self, key: str) -> str:
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key

    def _verify(self, key: str, answer: Mapping[str, Any], digest: Callable[[], str]) -> None:
        """Compare with the digest that was put beside an object; one that others put may have none."""
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}  # rclone says Sha256
        wanted = metadata.get(DIGEST)
        if wanted and (found := digest()) != f"sha256:{wanted}":
            raise Tampered(
                f"{key} in {self.uri} has digest {found}, not the sha256:{wanted} that it was put with",
                do="find out who changed the store, put it there again",
            )

    def _whole(self, key: str, call: Callable[[], T]) -> T:
        """Ask again, a few times, where bytes did not arrive whole or not as they were put."""
        for left in reversed(range(TRIES)):
            try:
                return self._ask(key, call)
            except (Cut, Tampered):
                if not left:
                    raise
        raise AssertionError

    def _ask(self, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except ERRORS as error:
            told = self._in_words(key, root_of(error))
            raise explained(told, uri=self.uri, bucket=self._bucket, key=key) from error

    def _in_words(self, key: str, error: Exception) -> Exception:
        """The same error with the server's reason: an answer to HEAD has none, so one byte is asked for."""
        if key and code_of(error) in WORDLESS:
            try:
                self._client().get_object(**self._named(key), Range="bytes=0-0")
            except ClientError as worded:
                told: Exception = worded
                return told
            except ERRORS:
                return error
        return error


def _unless_there(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    return {**params, "IfNoneMatch": "*"}


def _version(name: str | None) -> str:
    """A version's name; `null` is what a bucket says that keeps none."""
    return "" if name in (None, "null") else str(name)
