"""Who was champion when, read back from what each success has left with its version.

A ModelRollout says the same, for as long as it is kept; these tags are never overwritten, and outlive it. Pure.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from modelyard.record import record
from modelyard.registry.port import Version
from modelyard.spec.objects import moment

PREFIX: Final = "modelyard.champion."
"""`modelyard.champion.<namespace>.<attempt>`: the time at which the attempt succeeded, in RFC 3339."""


@record
class Champion:
    """A version that an attempt brought in."""

    at: float
    """Seconds since the epoch."""
    until: float | None
    """When the next one of the same deployment came; None: it is the last."""
    version: str
    digest: str
    namespace: str
    rollout: str


def champions(versions: Iterable[Version]) -> tuple[Champion, ...]:
    """All of a model, oldest first; what is no time is left out: whoever has the rights can write any tag."""
    found = []
    for each in versions:
        for tag, said in each.tags.items():
            if not tag.startswith(PREFIX):
                continue
            namespace, _, rollout = tag.removeprefix(PREFIX).partition(".")
            with suppress(ValueError):
                found.append((moment(said), each, namespace, rollout))
    found.sort(key=lambda one: (one[0], one[3]))
    made: list[Champion] = []
    last: dict[tuple[str, str], float] = {}
    for at, each, namespace, rollout in reversed(found):
        deployment = (namespace, rollout.rpartition("-")[0])
        made.append(
            Champion(
                at=at,
                until=last.get(deployment),
                version=each.version,
                digest=each.digest,
                namespace=namespace,
                rollout=rollout,
            )
        )
        last[deployment] = at
    return tuple(reversed(made))
