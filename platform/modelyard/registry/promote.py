"""Stage 8, promote: an alias moves. The same as moving it by hand in MLflow's UI."""

from modelyard.registry.names import check_alias, check_model, no_version
from modelyard.registry.port import AliasMoved, Registry, Version

ATTEMPTS = 5


def promote(registry: Registry, model: str, version: str, alias: str) -> str | None:
    """Let `alias` name `version`, whatever it named before; gives what that was.

    Raises:
        BadInput: no such version, or a name that the registry does not take.
        AliasMoved: others kept moving the alias.
        Unavailable: the registry is away.
    """
    check_model(model)
    check_alias(alias)
    known = [one.version for one in registry.versions(model)]
    if version not in known:
        raise no_version(model, version, known)
    before = registry.resolve(model, alias)
    expected = before.version if isinstance(before, Version) else None
    for attempt in range(ATTEMPTS):
        try:
            registry.move_alias(model, alias, version, expected=expected)
        except AliasMoved as moved:
            if attempt == ATTEMPTS - 1:
                raise
            expected = moved.now
        else:
            return expected
    raise AssertionError("the last attempt returns or raises")
