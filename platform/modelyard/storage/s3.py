"""A store that is a bucket with the S3 protocol: the one home of boto3."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from modelyard.errors import BadInput, ModelyardError, Unavailable
from modelyard.storage.atomic import scratch
from modelyard.storage.port import Stored

T = TypeVar("T")
_SETTINGS = Config(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 3, "mode": "standard"})


class S3Store:
    """Objects below `s3://bucket/prefix`; endpoint and credentials come from the usual AWS_* variables."""

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise BadInput(f"{uri} names no bucket", do="write s3://bucket/prefix")
        self.uri = uri.rstrip("/")
        self._bucket = bucket
        self._prefix = prefix.rstrip("/")
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:  # of a session of its own: the default one keeps credentials that were taken back
            self._made = boto3.Session().client("s3", config=_SETTINGS)
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        """Survive the way to a loader's worker: each process makes its own client."""
        return {**self.__dict__, "_made": None}

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Objects whose key begins with `prefix`, by key, each with its newest version."""
        begins = self._key(prefix)
        listed = self._ask(prefix, lambda: self._versions(begins))
        for key in sorted(listed):
            size, version, tag = listed[key]
            yield Stored(key=self._relative(key), bytes=size, version=version, tag=tag)

    def read(self, key: str, *, version: str = "") -> bytes:
        """The bytes of one object."""
        named = {"VersionId": version} if version else {}

        def read() -> bytes:
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=self._key(key), **named)["Body"].read()
            return body

        return self._ask(key, read)

    @contextmanager
    def opened(self, key: str, *, version: str = "") -> Iterator[Path]:
        """The object as a file of its own, which is unlinked when the block ends; what maps it goes on reading it."""
        named = {"VersionId": version} if version else {}
        with scratch(Path(tempfile.gettempdir()) / "modelyard-s3") as folder:
            path = folder / Path(key).name
            self._ask(
                key,
                lambda: self._client.download_file(self._bucket, self._key(key), str(path), ExtraArgs=named or None),
            )
            yield path

    def write(self, key: str, source: Path) -> Stored:
        """Put a file; an object appears whole or not at all."""
        with source.open("rb") as body:
            answer = self._ask(key, lambda: self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=body))
        return Stored(key=key, bytes=source.stat().st_size, version=_version(answer.get("VersionId")))

    def _versions(self, begins: str) -> dict[str, tuple[int, str, str]]:
        """Key → size, version and tag; a bucket (or server) without versions gives empty ones."""
        found: dict[str, tuple[int, str, str]] = {}
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=begins):
            for item in page.get("Contents", ()):
                found[item["Key"]] = (item["Size"], "", item["ETag"])
        if self._client.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled":
            for page in self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=begins):
                for item in page.get("Versions", ()):
                    if item["IsLatest"] and item["Key"] in found:
                        found[item["Key"]] = (item["Size"], _version(item["VersionId"]), item["ETag"])
        return found

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _relative(self, key: str) -> str:
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key

    def _ask(self, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise self._explained(key, code, error) from error
        except BotoCoreError as error:
            if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "NoRegionError"):
                raise BadInput(f"{self.uri}: {error}", do="set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY") from error
            raise Unavailable(f"{self.uri} is away: {error}", do="check AWS_ENDPOINT_URL, try again") from error

    def _explained(self, key: str, code: str, error: ClientError) -> ModelyardError:
        if code in ("NoSuchKey", "404", "NoSuchVersion"):
            return BadInput(f"There is no object {key!r} in {self.uri}", do="restore it or name another one")
        if code == "NoSuchBucket":
            return BadInput(f"There is no bucket {self._bucket!r}", do="correct the address")
        if code in ("AccessDenied", "403", "SignatureDoesNotMatch", "InvalidAccessKeyId"):
            return BadInput(f"{self.uri} refuses us: {code}", do="check the credentials and what they may do")
        if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "301"):
            return BadInput(f"The bucket {self._bucket!r} lies in another region ({code})", do="set AWS_DEFAULT_REGION")
        return Unavailable(f"{self.uri} answered {error}", do="try again later")


def _version(name: str | None) -> str:
    """A version's name; `null` is what a bucket says that keeps none."""
    return "" if name in (None, "null") else str(name)
