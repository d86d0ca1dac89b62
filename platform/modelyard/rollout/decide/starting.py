"""Starting: the arm is being made ready. The route names it at weight 0; stable serves everything."""

from collections.abc import Mapping
from dataclasses import replace

from modelyard.rollout.capacity import needed, share_at
from modelyard.rollout.decide import rolling_back, sides
from modelyard.rollout.decide.judge import begun, interrupted, unavailable
from modelyard.rollout.decide.plan import READY_S, Plan, entered, noted, the_attempt, with_status
from modelyard.rollout.decide.wished import is_lost
from modelyard.rollout.observation import Observation
from modelyard.spec.rollout import Phase
from modelyard.verdict import Verdict


def plan(seen: Observation) -> Plan:
    """Wait for readiness, then walk the steps; straight on where there is no stable or no step."""
    attempt = the_attempt(seen)
    stop = interrupted(seen) or unavailable(seen, since=attempt.status.step_since)
    if stop is not None:
        return rolling_back.begin(seen, stop)
    stable, spec = seen.stable, attempt.spec
    everything = sides.everything(seen)
    straight = stable is None or not spec.steps
    replicas = everything if straight else max(1, needed(everything, share_at(spec.steps, 0)))
    out = sides.leaving(seen, sides.walking(seen))
    memory = replace(seen.memory, still=out.still)
    acts = (
        *sides.ensure_stable(seen, everything),
        *sides.ensure_canary(seen, replicas),
        *sides.ensure_baseline(seen, replicas),
        *out.retire,
        *sides.route(seen, _weights(seen, out.zeros)),
    )
    if sides.both_ready(seen) < replicas or spec.paused or (is_lost(seen) and not spec.promote):
        return Plan(attempt, memory, acts=acts, again=seen.now + READY_S)
    attempt = with_status(attempt, noted(attempt.status, "CanaryReady", f"arm {spec.arm} answered", at=seen.now))
    if straight:
        why = "there is no stable yet" if stable is None else "there are no steps"
        return Plan(entered(attempt, Phase.PROMOTING, now=seen.now, why=why), memory, acts=acts, again=seen.now)
    evidence = begun(replace(seen, memory=memory))
    if isinstance(evidence, Verdict):
        return rolling_back.begin(replace(seen, attempt=attempt), evidence)
    attempt = entered(attempt, Phase.PROGRESSING, now=seen.now, why=f"{len(spec.steps)} steps")
    return Plan(attempt, evidence, acts=acts, again=seen.now)


def _weights(seen: Observation, zeros: Mapping[str, int]) -> dict[str, int]:
    """Stable has all; the canary, and its baseline, are named at 0 as soon as they are there."""
    if seen.stable is None:
        return {}
    others = sorted(sides.walking(seen) & seen.arms.keys() - {seen.stable.arm})
    return {**zeros, seen.stable.arm: 100, **dict.fromkeys(others, 0)}
