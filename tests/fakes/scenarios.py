"""What happens to a stable version 1, for whichever world: the rollout's own, or a cluster's in memory."""

from typing import Protocol


class Versions(Protocol):
    """A registry that a test speaks to."""

    def version(self, number: str, *, errors: float = 0.0) -> None:
        """Register a version whose answers fail at this rate."""

    def alias(self, number: str) -> None:
        """Let the alias name it."""


def success(it: Versions) -> None:
    it.version("2")
    it.alias("2")


def failure(it: Versions) -> None:
    it.version("2", errors=0.5)
    it.alias("2")


def abort(it: Versions) -> None:
    """Neither good nor bad enough to be over before somebody aborts it."""
    it.version("2", errors=0.02)
    it.alias("2")
