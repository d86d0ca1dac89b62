"""What MLflow answers, and what it means: for the adapter over its client and the one over its REST API."""

from collections.abc import Mapping
from typing import Final

from modelyard.registry.port import Version
from modelyard.verdict import Outcome, Reason, Verdict

DIGEST: Final = "modelyard.digest"
UNKNOWN: Final = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""How MLflow says that there is no such model, version or alias."""
AWAY: Final = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")


def version_of(model: str, number: str, *, source: str, tags: Mapping[str, str], created_ms: int | None) -> Version:
    """A version, as MLflow tells of it."""
    return Version(
        model=model,
        version=number,
        digest=tags.get(DIGEST, ""),
        source=source,
        tags=dict(tags),
        created_at=(created_ms or 0) / 1000,
    )


def no_alias(model: str, alias: str) -> Verdict:
    """There is no such alias, or no such model."""
    return _unknown(Reason.ALIAS_MISSING, f"{model} has no alias {alias}")


def dangling(model: str, alias: str) -> Verdict:
    """Its version was deleted (mlflow/mlflow PR #24825)."""
    return _unknown(Reason.VERSION_MISSING, f"{alias} of {model} names a version that is gone")


def served(version: Version, alias: str) -> Version | Verdict:
    """The version, where it has a digest; else it is not one that can be verified."""
    if version.digest:
        return version
    return _unknown(
        Reason.ARTIFACT_MISSING,
        f"{alias} names version {version.version} of {version.model}, which has no tag {DIGEST}: not registered by us",
    )


def _unknown(reason: Reason, message: str) -> Verdict:
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=reason, message=message)
