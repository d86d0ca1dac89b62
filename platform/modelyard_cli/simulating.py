"""What a rollout would be like, in numbers to choose steps by: many simulated ones of each kind, one row each."""

import statistics
from collections.abc import Mapping
from typing import Any

from modelyard.rollout.simulate import Simulated, Truth, simulate
from modelyard.spec.deployment import DeploymentSpec
from modelyard.verdict import Outcome


def table(truths: Mapping[str, Truth], wish: DeploymentSpec, *, rollouts: int, seed: int) -> list[dict[str, Any]]:
    """One row for each truth: how its rollouts end, how long they take, what they cost."""
    return [
        _row(name, [simulate(wish, truth, seed=seed + number) for number in range(rollouts)])
        for name, truth in truths.items()
    ]


def _row(name: str, ends: list[Simulated]) -> dict[str, Any]:
    failed = sum(not one.promoted and one.verdict.outcome is Outcome.FAILED for one in ends)
    promoted = sum(one.promoted for one in ends)
    return {
        "canary": name,
        "promoted": f"{promoted / len(ends):.0%}",
        "rolled back": f"{failed / len(ends):.0%}",
        "inconclusive": f"{(len(ends) - promoted - failed) / len(ends):.0%}",
        "median s": round(statistics.median(one.seconds for one in ends)),
        "longest s": round(max(one.seconds for one in ends)),
        "canary requests": round(statistics.median(one.canary_requests for one in ends)),
        "its errors": round(statistics.median(one.canary_errors for one in ends)),
        "harmed": round(statistics.median(one.harmed for one in ends)),
    }
