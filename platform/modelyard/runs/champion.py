"""The model that is served now, brought here so that it can be judged on the same examples."""

from dataclasses import dataclass
from pathlib import Path

from modelyard.errors import BadInput, Tampered
from modelyard.packaging.archive import unpack_model
from modelyard.registry.port import Registry, Version
from modelyard.spec.project import ModelProject
from modelyard.verdict import Outcome, Reason, Verdict


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What the alias names, and its model folder; or why there is none."""

    version: str | None = None
    """None: the alias names nothing."""
    folder: Path | None = None
    missing: Verdict | None = None
    """Why a champion that is named cannot be compared with: an inconclusive verdict, never a pass."""


def champion_of(registry: Registry, project: ModelProject, *, into: Path) -> Champion:
    """Fetch, verify and unpack what the project's alias names."""
    named = registry.resolve(project.metadata.name, project.alias)
    if isinstance(named, Verdict):
        if named.reason == Reason.ALIAS_MISSING:
            return Champion()
        return Champion(missing=named)
    return _unpacked(registry, named, into)


def _unpacked(registry: Registry, named: Version, into: Path) -> Champion:
    folder = into / named.digest.removeprefix("sha256:")
    try:
        archive = registry.fetch(named, folder / "archive")
        model = unpack_model(archive, folder / "model")
    except (BadInput, Tampered) as error:
        missing = Verdict(
            outcome=Outcome.INCONCLUSIVE,
            reason=Reason.CHAMPION_UNAVAILABLE,
            message=f"version {named.version} cannot be compared with: {error}",
        )
        return Champion(version=named.version, missing=missing)
    return Champion(version=named.version, folder=model)
