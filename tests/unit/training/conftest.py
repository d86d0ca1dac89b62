"""Small data, made once."""

import os
from pathlib import Path

import pytest
import torch
from tests.fakes.trainings import small_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
