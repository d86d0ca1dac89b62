"""How many replicas a share of the traffic needs, and what a step's weight is. Arithmetic only.

With N replicas that together carry all traffic, a share of w percent needs

    needed(N, w) = ceil(N * w / 100)        at least 1 where w > 0

    N = 4:   w = 5 → 1     w = 50 → 2     w = 51 → 3     w = 100 → 4
    N = 1:   w = 1 → 1     w = 100 → 1

Stable keeps all its N replicas until the new arm carries everything: it can take all traffic back at any moment.
So a rollout costs at most N replicas more, and a rollback never meets a stable that was made small.
"""

from collections.abc import Mapping

from modelyard.spec.deployment import AnalysisStep, SetWeight, Step
from modelyard.units import Percentage


def needed(replicas: int, share: int) -> int:
    """Replicas that carry `share` percent where `replicas` carry all.

    >>> needed(4, 5), needed(4, 50), needed(4, 51), needed(4, 100), needed(4, 0)
    (1, 2, 3, 4, 0)
    """
    return -(-max(replicas, 1) * share // 100)


def total(*wished: int) -> int:
    """Replicas that carry all traffic while several wishes hold: the largest, and never 0."""
    return max(1, *wished)


def share_at(steps: tuple[Step, ...], step: int) -> int:
    """The canary's weight in percent while step number `step` is walked: what the last `setWeight` up to it says."""
    said = [each.set_weight for each in steps[: step + 1] if isinstance(each, SetWeight)]
    return said[-1] if said else 0


def margins_at(steps: tuple[Step, ...], step: int) -> Mapping[str, Percentage]:
    """The margins in force at a step: those of the next `analysis` step, else of the last one there was."""
    ahead = [each.analysis.margins for each in steps[step:] if isinstance(each, AnalysisStep)]
    behind = [each.analysis.margins for each in steps[:step] if isinstance(each, AnalysisStep)]
    return ahead[0] if ahead else behind[-1] if behind else {}


def split(stable: str, canary: str, share: int, baseline: str = "") -> dict[str, int]:
    """Weights that give the canary `share` percent, and as much to a baseline, as far as there is so much.

    >>> split("old", "new", 5)
    {'old': 95, 'new': 5}
    >>> split("old", "new", 5, "copy"), split("old", "new", 60, "copy")
    ({'old': 90, 'new': 5, 'copy': 5}, {'old': 0, 'new': 60, 'copy': 40})
    """
    if not baseline:
        return {stable: 100 - share, canary: share}
    beside = min(share, 100 - share)
    return {stable: 100 - share - beside, canary: share, baseline: beside}
