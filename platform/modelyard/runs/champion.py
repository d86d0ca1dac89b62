"""The model that is served now, brought here so that it can be judged on the same examples."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.errors import BadInput, Tampered
from modelyard.evaluation.align import refuse_unlearnt
from modelyard.model.predictor import verify
from modelyard.packaging.archive import unpack_model
from modelyard.registry.port import Registry, Version
from modelyard.spec.project import ModelProject
from modelyard.storage.atomic import digest_file
from modelyard.training.job import Weights
from modelyard.verdict import Outcome, Reason, Verdict


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What the alias names, and its model folder; or why there is none."""

    version: str | None = None
    """None: the alias names nothing."""
    folder: Path | None = None
    missing: Verdict | None = None
    """Why a champion that is named cannot be compared with: an inconclusive verdict, never a pass."""


COMPARED_WITH = "modelyard.gate.champion"
"""Tag of a version: the version that was champion when it was gated; empty where there was none."""


def champion_of(registry: Registry, project: ModelProject, *, mine: Mapping[str, str], into: Path) -> Champion:
    """Fetch, verify and unpack what the project's alias names.

    A run that was killed after it moved the alias finds its own model there when it is run again. That one is judged
    against the champion that it was judged against before: a model is never better than itself.

    Args:
        registry: where versions are.
        project: whose alias.
        mine: tags by which this run's own model is known.
        into: folder for what is unpacked, by digest.
    """
    name = project.metadata.name
    named = registry.resolve(name, project.alias)
    if isinstance(named, Version) and COMPARED_WITH in named.tags and mine.items() <= named.tags.items():
        before = named.tags[COMPARED_WITH]
        if not before:
            return Champion()
        named = _numbered(registry, name, before) or named
    if isinstance(named, Verdict):
        if named.reason == Reason.ALIAS_MISSING:
            return Champion()
        return Champion(missing=named)
    return _unpacked(registry, named, into)


def version_of(registry: Registry, project: ModelProject, number: str, *, into: Path) -> Champion:
    """Fetch, verify and unpack the anchor, a version by its number; where it is not there, the verdict that says so."""
    named = _numbered(registry, project.metadata.name, number)
    if named is None:
        there = ", ".join(one.version for one in registry.versions(project.metadata.name)) or "none yet"
        message = f"notWorseThanAnchor names version {number}, which is not registered (there are: {there})"
        missing = Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.VERSION_MISSING, message=message)
        return Champion(version=number, missing=missing)
    return _unpacked(registry, named, into)


def check_learnt(registry: Registry, project: ModelProject, classes: Sequence[str], *, into: Path) -> None:
    """Refuse data with a class that a version never learnt which a gate compares with: before training, not after it.

    A version that cannot be looked into is left to the gate, whose verdict says why.

    Args:
        registry: where versions are.
        project: whose gates.
        classes: of the data; empty where labels are no classes.
        into: folder for what is unpacked, by digest: the gate finds it there.

    Raises:
        BadInput: there is such a class.
    """
    name, named = project.metadata.name, dict[str, Version | Verdict | None]()
    for rule in project.gates if classes else ():
        if rule.not_worse_than_champion is not None or rule.better_than_champion:
            named["champion"] = registry.resolve(name, project.alias)
        elif rule.not_worse_than_anchor is not None:
            number = rule.not_worse_than_anchor.version
            named[f"version {number}"] = _numbered(registry, name, number)
    for against, version in named.items():
        folder = _unpacked(registry, version, into).folder if isinstance(version, Version) else None
        known = verify(folder).facts.get("classes") if folder else None
        refuse_unlearnt(against, [one for one in classes if known and one not in known])


def _unpacked(registry: Registry, named: Version, into: Path, *, uncompressed: bool = False) -> Champion:
    folder = into / named.digest.removeprefix("sha256:")
    try:
        archive = registry.fetch(named, folder / "archive")
        model = unpack_model(archive, folder / ("uncompressed" if uncompressed else "model"), uncompressed=uncompressed)
    except (BadInput, Tampered) as error:
        missing = Verdict(
            outcome=Outcome.INCONCLUSIVE,
            reason=Reason.CHAMPION_UNAVAILABLE,
            message=f"version {named.version} cannot be compared with: {error}",
        )
        return Champion(version=named.version, missing=missing)
    return Champion(version=named.version, folder=model)


def registered_weights(registry: Registry, named: str, *, into: Path) -> Weights:
    """The weights of a registered version, as `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    Where a compressed variant serves, these are the weights that it was made from: its archive carries them.

    Raises:
        BadInput: there is no such version, its archive is gone, or it holds no weights.
    """
    found = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))", named)
    if not found:
        raise BadInput(
            f"train.initialize.from: {named} names no version", do="write models:/NAME/3 or models:/NAME@champion"
        )
    model, number, alias = found.groups()
    version = _numbered(registry, model, number) if number else registry.resolve(model, alias)
    if not isinstance(version, Version):
        why = version.message if version else "there is no such version"
        raise BadInput(f"train.initialize.from: {named}: {why}", do="name a version that is registered")
    champion = _unpacked(registry, version, into, uncompressed=True)
    if champion.folder is None:
        assert champion.missing is not None
        raise BadInput(f"train.initialize.from: {champion.missing.message}", do="name another version")
    weights = champion.folder / "model.safetensors"
    if not weights.is_file():
        raise BadInput(
            f"train.initialize.from: {named} holds no weights to go on from",
            do="give the safetensors file of its training run",
        )
    return Weights(path=str(weights), digest=digest_file(weights))


def _numbered(registry: Registry, model: str, number: str) -> Version | None:
    return next((v for v in registry.versions(model) if v.version == number), None)
