"""Real S3 servers for tests: `rclone serve s3`, which checks signatures, and moto, which knows what Amazon's does."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelyard.processes import free_port, spawn, wait_until

RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
KEY, SECRET = "someone", "something secret"


@contextmanager
def rclone(home: Path, *arguments: str, scheme: str = "http") -> Iterator[str]:
    """Its endpoint; it serves the folders of `home/served` as buckets, of which `mine` is there."""
    assert RCLONE is not None
    (home / "served" / "mine").mkdir(parents=True)
    port = free_port()
    argv = [
        RCLONE, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}",
        "--config", home / "none.conf", "--cache-dir", home / "cache", *arguments, home / "served",
    ]  # fmt: skip
    child = spawn(argv, log=home / "log")

    def up() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
        return False

    wait_until(up, deadline_s=60, what="rclone", child=child)
    try:
        yield f"{scheme}://127.0.0.1:{port}"
    finally:
        child.stop(grace=1)


def credentials(endpoint: str) -> dict[str, str]:
    """The variables with which a store reaches it."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
