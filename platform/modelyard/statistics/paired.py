"""Comparisons of two models on the same examples: what one got right and the other wrong is all that matters."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from modelyard.errors import BadInput
from modelyard.statistics.intervals import at_least

T = TypeVar("T")


class Discordant(NamedTuple):
    """Pairs on which two models differ."""

    gained: int
    """Only the candidate was right."""
    lost: int
    """Only the champion was right."""
    total: int
    """All pairs."""

    @property
    def difference(self) -> float:
        """Candidate's accuracy minus the champion's."""
        return (self.gained - self.lost) / self.total if self.total else 0.0


def discordant(candidate: Sequence[bool], champion: Sequence[bool]) -> Discordant:
    """Count pairs.

    Raises:
        BadInput: the sequences have different lengths.
    """
    if len(candidate) != len(champion):
        raise BadInput(f"{len(candidate)} results against {len(champion)}", do="compare results on the same examples")
    gained = sum(mine and not theirs for mine, theirs in zip(candidate, champion, strict=True))
    lost = sum(theirs and not mine for mine, theirs in zip(candidate, champion, strict=True))
    return Discordant(gained, lost, len(candidate))


def mcnemar(gained: int, lost: int) -> float:
    """Exact one-sided p-value that the candidate is better: P(X ≥ gained) for X ~ Binomial(gained + lost, ½)."""
    return at_least(gained, gained + lost, 0.5)


def holm(items: Sequence[T], rejects: Callable[[T, float], bool], alpha: float) -> list[T]:
    """Items rejected by Holm's step-down correction (1979): at α/k; if one fell, the others at α/(k−1); and so on.

    Args:
        items: what is judged.
        rejects: whether an item is rejected at a level; what is rejected at a level is rejected at any wider one.
        alpha: the chance of rejecting any item wrongly.
    """
    left, fallen = list(items), []
    while left:
        falling = [item for item in left if rejects(item, alpha / len(left))]
        if not falling:
            break
        fallen += falling
        left = [item for item in left if item not in falling]
    return fallen
