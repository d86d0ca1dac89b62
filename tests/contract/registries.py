"""Registries as tests see them: the fake, a real MLflow, and the same over REST alone."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.fakes.registry import FakeRegistry

from modelyard.processes import free_port
from modelyard.registry.port import Candidate, Registry, Version
from modelyard.registry.rest import RestRegistry
from modelyard.storage.atomic import digest_bytes


class World(Protocol):
    """A registry and what others do to it behind our back."""

    registry: Registry

    def delete(self, version: Version) -> None: ...

    def spoil(self, version: Version) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.registry = FakeRegistry()

    def delete(self, version: Version) -> None:
        self.registry.delete(version.model, version.version)

    def spoil(self, version: Version) -> None:
        self.registry.spoil(version)


@dataclass
class MLflowWorld:
    registry: Any
    home: Path

    @property
    def client(self) -> Any:
        return self.registry._client

    def delete(self, version: Version) -> None:
        self.client.delete_model_version(version.model, version.version)

    def by_hand(self, first: Version, *, tags: dict[str, str]) -> None:
        """Make another version of the same LoggedModel, as a person could."""
        model_id = first.source.removeprefix("models:/")
        self.client.create_model_version(first.model, first.source, tags=tags, model_id=model_id)

    def spoil(self, version: Version) -> None:
        model_id = version.source.removeprefix("models:/")
        (archive,) = (self.home / "artifacts").rglob(f"{model_id}/**/*.mar")
        archive.write_bytes(b"other bytes")


class MLflowServer:
    """A real server, for all tests of one worker."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def restart(self) -> None:
        self.child.stop()
        self._start()

    def _start(self) -> None:
        from modelyard.registry.server import start_mlflow

        self._port = free_port()
        self.child = start_mlflow(self.home, port=self._port)


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    server = MLflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.child.stop()


@pytest.fixture
def mlflow_world(mlflow: MLflowServer) -> MLflowWorld:
    from modelyard.registry.mlflow import MLflowRegistry

    return MLflowWorld(registry=MLflowRegistry(mlflow.uri), home=mlflow.home)


@pytest.fixture(params=["fake", pytest.param("mlflow", marks=pytest.mark.process)])
def world(request: pytest.FixtureRequest) -> World:
    return FakeWorld() if request.param == "fake" else request.getfixturevalue("mlflow_world")


class OverRest(MLflowWorld):
    """What a rollout asks goes over MLflow's REST API; versions are made by its client."""

    @property
    def client(self) -> Any:
        return self.registry.maker._client


class RestAndMaker(RestRegistry):
    def __init__(self, maker: Any) -> None:
        super().__init__(maker.uri)
        self.maker = maker
        self.register, self.fetch = maker.register, maker.fetch


@pytest.fixture(params=["fake", *(pytest.param(over, marks=pytest.mark.process) for over in ("mlflow", "rest"))])
def followed(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world whose aliases, versions and tags are followed."""
    if request.param == "fake":
        yield FakeWorld()
        return
    found = request.getfixturevalue("mlflow_world")
    if request.param == "mlflow":
        yield found
        return
    registry = RestAndMaker(found.registry)
    yield OverRest(registry=registry, home=found.home)
    registry.close()


@pytest.fixture
def model() -> str:
    """A name that no other test uses: they share a server."""
    return f"digits-{secrets.token_hex(4)}"


def candidate(folder: Path, model: str, content: bytes = b"archive") -> Candidate:
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "model"
    if not made.exists():
        made.mkdir()
        (made / "model.json").write_text('{"kind": "eager"}')
    (folder / "digits.mar").write_bytes(content)
    (folder / "manifest.json").write_text("{}")
    (folder / "report.json").write_text("{}")
    return Candidate(
        model=model,
        archive=str(folder / "digits.mar"),
        digest=digest_bytes(content),
        folder=str(made),
        manifest=str(folder / "manifest.json"),
        artifacts={"evaluate.json": str(folder / "report.json")},
        metrics={"accuracy": 0.98},
        tags={"modelyard.gate": "Passed"},
    )
