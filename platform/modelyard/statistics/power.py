"""How many examples would do: said with every Inconclusive verdict, because "not enough" alone helps nobody."""

import math
from statistics import NormalDist

from modelyard.statistics.intervals import quantile

POWER = 0.8
LIMIT = 10_000_000
"""Above this the answer is None: no test set is so large."""


def for_difference(variance: float, distance: float, *, confidence: float = 0.95, power: float = POWER) -> int | None:
    """Examples until an interval's bound clears a limit that the truth is `distance` away from.

    n = (z_{(1+confidence)/2} + z_power)² · variance / distance² (normal approximation).

    Args:
        variance: of one example's contribution; for paired accuracy the share of discordant pairs minus difference².
        distance: between the truth and the limit; not positive: no number of examples would do.
        confidence: of the two-sided interval.
        power: wished chance of a clear answer.
    """
    if distance <= 0 or not math.isfinite(variance) or variance < 0:
        return None
    z = quantile(confidence) + NormalDist().inv_cdf(power)
    above, below = z * z * variance, distance * distance
    return max(1, math.ceil(above / below)) if above <= LIMIT * below and below > 0 else None


def for_paired_accuracy(
    discordance: float, margin: float, *, difference: float = 0.0, confidence: float = 0.95, power: float = POWER
) -> int | None:
    """Pairs until "not worse by `margin`" is seen with `power`, when the truth is `difference`.

    Args:
        discordance: share of pairs on which the two models differ.
        margin: how much worse is allowed.
        difference: candidate minus champion, in truth.
        confidence: of the two-sided interval.
        power: wished chance of Passed.
    """
    return for_difference(discordance - difference**2, margin + difference, confidence=confidence, power=power)
