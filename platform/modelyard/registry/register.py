"""Stage 7, register: one version for one archive, and alias `candidate` on it."""

from modelyard.registry.port import Candidate, Registry, Version
from modelyard.registry.promote import promote

CANDIDATE = "candidate"


def register(registry: Registry, candidate: Candidate) -> Version:
    """Register a candidate whose gates have passed, and let the alias `candidate` name it. May be repeated.

    Raises:
        BadInput: the model's name or a file of the candidate cannot be used; nothing was registered.
        Tampered: the archive differs from its digest.
        Unavailable: the registry is away.
    """
    version = registry.register(candidate)
    promote(registry, candidate.model, version.version, CANDIDATE)
    return version
