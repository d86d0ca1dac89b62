"""Packages of the small model, and one server for all tests that leave it as it was."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.small_model import small_package

from modelyard.packaging.package import Package
from modelyard.serving.torchserve import Server
from modelyard.spec.deployment import Runtime, TorchServe

Start = Callable[..., Server]


@pytest.fixture(scope="session")
def package_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Package]:
    made: dict[str, Package] = {}

    def get(cls: str) -> Package:
        if cls not in made:
            made[cls] = small_package(tmp_path_factory.mktemp(cls), cls)
        return made[cls]

    return get


@pytest.fixture
def start(package_of: Callable[[str], Package], tmp_path: Path) -> Iterator[Start]:
    """Start servers that are stopped when the test ends."""
    servers: list[Server] = []

    def begin(cls: str = "Moody", *, ready: bool = True, wish: TorchServe = TorchServe()) -> Server:  # noqa: B008
        packed = package_of(cls)
        server = Server.start(
            Path(packed.archive),
            digest=packed.digest,
            name=packed.name,
            runtime=Runtime(torch_serve=wish),
            work=tmp_path / f"server{len(servers)}",
        )
        servers.append(server)
        if ready:
            server.wait_ready(120)
        return server

    yield begin
    for server in servers:
        server.stop(0)


@pytest.fixture(scope="module")
def server(package_of: Callable[[str], Package], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    packed = package_of("Moody")
    with Server.start(
        Path(packed.archive),
        digest=packed.digest,
        name=packed.name,
        runtime=Runtime(),
        work=tmp_path_factory.mktemp("server"),
    ) as started:
        started.wait_ready(120)
        yield started
