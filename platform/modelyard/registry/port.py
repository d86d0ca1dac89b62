"""What Modelyard needs of a model registry: six idempotent verbs."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Protocol

from modelyard.errors import Conflict
from modelyard.record import record
from modelyard.verdict import Verdict


@record
class Version:
    """A registered version, as it was read."""

    model: str
    version: str
    """A whole number as text, as MLflow has it."""
    digest: str
    """`sha256:…` of the model archive."""
    source: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0


@record
class Candidate:
    """What is to be registered."""

    model: str
    archive: str
    """Path of the `.mar`."""
    digest: str
    folder: str
    """Path of the model folder (`model.json`), from which pyfunc loads."""
    manifest: str
    """Path of the signed manifest of digests."""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    """Reports to keep with the version: name → path."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    """Verdicts and lineage: `modelyard.<what>` → value."""
    run_id: str | None = None
    """MLflow run of the training, whose child this is."""


class AliasMoved(Conflict):
    """An alias names something else than was expected; `now` is what (None: nothing)."""

    def __init__(self, alias: str, model: str, *, now: str | None, expected: str | None) -> None:
        told = ["nothing" if version is None else f"version {version}" for version in (now, expected)]
        super().__init__(f"{alias} of {model} names {told[0]}, not {told[1]}", do="look again, then decide anew")
        self.now = now


class Followed(Protocol):
    """What a rollout asks of a registry: versions, aliases, tags. Every verb may be repeated.

    Raises everywhere: `Unavailable` when the registry cannot be reached.
    """

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of a model, oldest first; empty when there is no such model."""

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        """What the alias names now, or why that is unknown."""

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        """Let the alias name `version`.

        Raises:
            AliasMoved: the alias named something else than `expected` (None: nothing) just before.
            BadInput: no such version, or the alias is reserved (`latest`, `v7`).
        """

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or overwrite tags of a version."""


class Recorded(Protocol):
    """What explaining earlier decisions asks of a registry."""

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of a model, oldest first; empty when there is no such model."""

    def report(self, version: Version, name: str, into: Path) -> Path:
        """A report that was registered with a version (`evidence.json`), as a file below `into`.

        Raises:
            BadInput: the version has none of that name.
        """


class Registry(Followed, Recorded, Protocol):
    """The whole of it: versions are made and fetched, too."""

    def register(self, candidate: Candidate) -> Version:
        """The one version with the candidate's digest; made if it is not there, also when two ask at once."""

    def fetch(self, version: Version, into: Path) -> Path:
        """The archive of a version as a file below `into`, its digest verified.

        Raises:
            Tampered: the bytes differ from the digest.
            BadInput: the version has no archive.
        """

    def keep(self, version: Version, reports: Mapping[str, str]) -> None:
        """Keep further reports with a version, name → path; of an equal name the last one stays.

        Raises:
            BadInput: the version is not there, or no run registered it.
        """
