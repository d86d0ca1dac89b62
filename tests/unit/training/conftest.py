"""Small data, made once; launchers over a cluster in memory."""

import os
from pathlib import Path

import pytest
import torch
from tests.fakes.trainings import small_data
from tests.unit.training.launching import World, claim, job_in


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, job_in(tmp_path / "job"))


@pytest.fixture
def wide(tmp_path: Path) -> World:
    """Three nodes over a claim."""
    made = World(tmp_path, job_in(tmp_path / "job", nodes=3))
    made.cluster.create(claim("ReadWriteMany"), manager="tests")
    return made
