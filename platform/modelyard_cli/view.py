"""What a deployment and its attempts look like in a row. Pure: records and the time in, plain data out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard.spec.deployment import ModelDeployment
    from modelyard.spec.rollout import ModelRollout


def deployment_row(
    wish: "ModelDeployment", rollouts: "tuple[ModelRollout, ...]", *, alive: bool = True
) -> dict[str, Any]:
    """The columns of `kubectl get mdep`: stable, canary, weight, step, verdict.

    Nothing serves where the loop is not `alive`, whatever its records say of the last time that it was.
    """
    stable = wish.status.stable
    newest = rollouts[-1] if rollouts else None
    row: dict[str, Any] = {
        "model": wish.spec.model.name,
        "stable": stable.version if stable else None,
        "ready": f"{stable.ready_replicas}/{wish.spec.least}" if stable and alive else f"0/{wish.spec.least}",
        "alias": f"{wish.spec.model.alias} → {wish.status.alias.get('version', '?')}"
        if wish.spec.model.alias
        else None,
    }
    if newest:
        row |= {"rollout": newest.metadata.name, **_progress(newest)}
    conditions = [one for one in wish.status.conditions if one.status == "True" or one.type == "Ready"]
    said = [f"{one.type} {one.reason}" + (f": {one.message}" if one.type == "Degraded" else "") for one in conditions]
    row["conditions"] = ", ".join(said) if alive else f"services are down; when they were up: {', '.join(said)}"
    return row


def rollout_row(rollout: "ModelRollout", now: float, trouble: str | None = None) -> dict[str, Any]:
    """One attempt; `trouble` keeps the loop from going on with it."""
    status = rollout.status
    began = status.started_at
    return {
        "rollout": rollout.metadata.name,
        "version": rollout.spec.version,
        "from": rollout.spec.previous.get("version"),
        **_progress(rollout),
        "took": age((status.ended_at or now) - began) if began else None,
        "message": trouble or (status.verdict.message if status.verdict else None),
    }


def _progress(rollout: "ModelRollout") -> dict[str, Any]:
    status = rollout.status
    weight = status.weights.confirmed.get(rollout.spec.arm)
    held = " (paused)" if rollout.spec.paused and status.ended_at is None else ""
    return {
        "phase": f"{status.phase}{held}",
        "step": f"{min(status.step, len(rollout.spec.steps))}/{len(rollout.spec.steps)}",
        "weight": None if weight is None else f"{weight} %",
        "verdict": f"{status.verdict.outcome}: {status.verdict.reason}" if status.verdict else None,
    }


def with_units(metrics: "Mapping[str, float]") -> dict[str, float]:
    """Metrics under the names that a person reads.

    >>> with_units({"accuracy": 0.98, "latency-p50": 0.2})
    {'accuracy': 0.98, 'latency-p50 (ms)': 0.2}
    """
    return {f"{name} (ms)" if name.startswith("latency") else name: value for name, value in metrics.items()}


def age(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> age(42.3), age(125), age(7300)
    ('42s', '2m5s', '2h1m')
    """
    whole = max(0, int(seconds))
    for size, unit, smaller, smaller_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{smaller_unit}"
    return f"{whole}s"
