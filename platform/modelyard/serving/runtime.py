"""What the rest of Modelyard needs of a server. TorchServe is archived, so another one shall be a new file."""

from pathlib import Path
from typing import Protocol

from modelyard.serving.torchserve import Server
from modelyard.spec.deployment import Runtime


class ModelServer(Protocol):
    """One server process of one model archive, on 127.0.0.1."""

    name: str
    port: int
    url: str
    """Where a request is POSTed."""

    def alive(self) -> bool:
        """Whether the server's own process runs."""

    def ready(self) -> bool:
        """Whether it answered a real prediction at start and since each worker's restart."""

    def warm_up(self) -> None:
        """Bring it to its later speed, within a bounded time, before clients and comparisons see it."""

    @property
    def failure(self) -> str | None:
        """Why it cannot become ready, when that is known."""

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""

    def in_flight(self) -> int:
        """Requests that it is still answering, as far as it can tell."""

    def stop(self, grace: float = 10.0) -> None:
        """Let it finish what it is answering, for `grace` seconds at most, then end it and all of its workers."""


def start_server(archive: Path, *, digest: str, name: str, runtime: Runtime, work: Path) -> ModelServer:
    """Start a server of the wished kind; it becomes ready later.

    Args:
        archive: the `.mar`.
        digest: its digest; other bytes are refused.
        name: the model's name, part of the URL.
        runtime: the wish.
        work: a folder of its own for the archive, configuration and logs.

    Raises:
        Tampered: the archive is not the one with this digest, or does not hold together.
        BadInput: no Java, or a name that cannot stand in a URL.
        Busy: the port is taken.
    """
    match runtime.type:
        case "TorchServe":
            return Server.start(archive, digest=digest, name=name, runtime=runtime, work=work)
