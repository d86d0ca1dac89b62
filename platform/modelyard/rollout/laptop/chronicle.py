"""Who was champion when: written down as the loop sees it, since a registry forgets what an alias named before."""

from modelyard.registry.history import History, Reign
from modelyard.rollout.loop import Then, look
from modelyard.rollout.ports import World


class Chronicle:
    """Looks as the loop does, and notes what the alias was seen to name."""

    def __init__(self, history: History, *, then: Then | None = None) -> None:
        self._history = history
        self._then = then

    def look(self, world: World, key: str, *, now: float) -> float | None:
        """One look (`modelyard.rollout.loop.look`)."""
        again = look(world, key, now=now, then=self._then)
        wish = world.records.deployment(key)
        if wish is not None and wish.spec.model.alias and wish.status.alias.get("version"):
            seen = wish.status.alias
            self._history.note(
                Reign(
                    at=float(seen.get("since", now)),
                    model=wish.spec.model.name,
                    alias=wish.spec.model.alias,
                    version=str(seen["version"]),
                    digest=str(seen.get("digest", "")),
                )
            )
        return again
