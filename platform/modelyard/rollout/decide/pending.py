"""Pending: recorded, nothing was started. The first look asks for the arm."""

from dataclasses import replace

from modelyard.rollout.decide import rolling_back, starting
from modelyard.rollout.decide.judge import interrupted
from modelyard.rollout.decide.plan import Plan, entered, noted, the_attempt, with_status
from modelyard.rollout.decide.wished import alias_status
from modelyard.rollout.observation import Memory, Observation
from modelyard.spec.rollout import Phase


def plan(seen: Observation) -> Plan:
    """Start, unless somebody thought better of it."""
    attempt = the_attempt(seen)
    stop = interrupted(seen)
    alias = alias_status(seen)
    status = replace(attempt.status, started_at=seen.now, alias={"before": attempt.spec.previous.get("version")})
    if alias.get("version") == attempt.spec.version:
        message = f"{alias.get('name', 'the wish')} names version {attempt.spec.version}"
        status = noted(status, "AliasObserved", message, at=float(alias["observedAt"]))
    attempt = with_status(attempt, status)
    fresh = Memory(rollout=attempt.metadata.name, still=seen.memory.still)
    if stop is not None:
        return rolling_back.begin(replace(seen, attempt=attempt, memory=fresh), stop)
    attempt = entered(attempt, Phase.STARTING, now=seen.now, why=f"arm {attempt.spec.arm} is asked for")
    return starting.plan(replace(seen, attempt=attempt, memory=fresh))
