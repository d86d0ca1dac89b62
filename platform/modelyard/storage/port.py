"""A store: files by key below one address, a folder or a bucket."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelyard.errors import BadInput

PASSED_ON = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "MODELYARD_S3_ENCRYPTION",
    "MODELYARD_S3_KMS_KEY", "MODELYARD_SHARD_CACHE",
)  # fmt: skip
"""Where buckets are, how they encrypt, how much of them a machine keeps: variables that pods get from whoever starts
them. Credentials never: those are a Secret's."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file in a store."""

    key: str
    """Its path below the store's address, with `/`."""
    bytes: int
    version: str = ""
    """What names exactly these bytes, where the store keeps versions; empty where it does not."""
    tag: str = ""
    """What changes when the bytes do, as far as the store tells without reading them."""


class Store(Protocol):
    """Files by key.

    Raises everywhere: `Unavailable` when the store cannot be reached, `BadInput` when it refuses us or a
    key is not there.
    """

    uri: str

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Files whose key begins with `prefix`, by key."""

    def read(self, key: str, *, version: str = "") -> bytes:
        """The bytes of one file, of the named version or the newest."""

    def opened(self, key: str, *, version: str = "") -> AbstractContextManager[Path]:
        """The file as a path that can be mapped while the block runs; copied there first if it lies elsewhere."""

    def write(self, key: str, source: Path, *, once: bool = False) -> Stored:
        """Put a file, whole or not at all; `once`: leave what stands there, for what is named by its digest."""


def open_store(uri: str) -> Store:
    """The store at a path or `s3://bucket/prefix`.

    Raises:
        BadInput: an address of another kind.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        from modelyard.storage.folder import FolderStore  # noqa: PLC0415

        return FolderStore(Path(rest if separator else uri))
    if scheme == "s3":
        from modelyard.storage.s3 import S3Store  # noqa: PLC0415 - boto3 takes half a second to import

        return S3Store(uri)
    raise BadInput(f"{uri} is no address of a store", do="write a path or s3://bucket/prefix")
