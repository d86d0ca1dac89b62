"""Limits on the canary's own answers, whatever stable's are. Pure.

Each is an E-process against "its share is at most the limit" (`modelyard.rollout.bets.above`), of the canary's part
of the same blocks. It can only stop a rollout: nothing here passes one.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from modelyard.errors import BadInput
from modelyard.rollout import bets
from modelyard.rollout.evidence import Alarm, Evidence, Tally
from modelyard.rollout.streams import Closed
from modelyard.spec.deployment import Guardrail
from modelyard.statistics.evalues import Block


def name_of(rail: Guardrail) -> str:
    """What a guardrail is called in the evidence."""
    return f"{_what(rail)} at most {rail.at_most}"


def alarm_of(evidence: Evidence, rail: Guardrail) -> Alarm:
    """Its E-process."""
    return next(one for one in evidence.rails if one.metric == name_of(rail))


def counted(evidence: Evidence, rail: Guardrail) -> Tally:
    """The canary's requests and hits; of stable there are none."""
    return evidence.tallies.get(name_of(rail), Tally())


def seen(evidence: Evidence, rail: Guardrail) -> str:
    """What the canary did, beside the limit."""
    tally = counted(evidence, rail)
    return f"guardrail: {tally.canary_share:.2%} of the canary's {tally.canary} {_what(rail)}, at most {rail.at_most}"


def advance(evidence: Evidence, bounds: Sequence[float], block: Closed, rails: Sequence[Guardrail]) -> Evidence:
    """A copy that knows one more block."""
    for rail in rails:
        # the first bound that is not below the limit: an answer counts when it is surely slower
        slow = rail.slower_than
        at = 0 if slow is None else bisect_left(bounds, slow.seconds * 1000 / bets.SLACK)
        here = Block(int(block.canary[-1]), block.canary[-1] - block.canary[at])
        before, old = alarm_of(evidence, rail), counted(evidence, rail)
        after = bets.raised(before, bets.above(here, rail.at_most.fraction))
        tally = replace(old, canary=old.canary + here.requests, canary_hits=old.canary_hits + here.hits)
        evidence = replace(
            evidence,
            rails=tuple(after if one is before else one for one in evidence.rails),
            tallies={**evidence.tallies, name_of(rail): tally},
        )
    return evidence


def check(rails: Sequence[Guardrail], bounds_ms: Sequence[float]) -> None:
    """Refuse what can never act.

    Raises:
        BadInput: names the field and what to write.
    """
    if len({rail.slower_than for rail in rails}) < len(rails):
        raise BadInput("two of analysis.guardrails limit the same", do="keep the stricter one")
    for rail in rails:
        if not 0 < rail.at_most.fraction < 1:
            raise BadInput(f"a guardrail's atMost is {rail.at_most}", do="write more than 0% and less than 100%")
        slow = rail.slower_than
        if slow is not None and not bounds_ms[0] <= slow.seconds * 1000 <= bounds_ms[-1]:
            measured = f"{bounds_ms[0]:g}ms to {bounds_ms[-1]:g}ms"
            raise BadInput(f"a guardrail's slowerThan is {slow}", do=f"write what the router measures: {measured}")


def _what(rail: Guardrail) -> str:
    return "failed" if rail.slower_than is None else f"slower than {rail.slower_than}"
