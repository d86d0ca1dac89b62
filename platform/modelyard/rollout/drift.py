"""Does the canary predict the same classes as often as stable? Pure.

The distance between two distributions of classes is their total variation: the largest difference of the arms' chances
of any *set* of classes, which is the sum over all classes of what one arm has more. Both E-processes are of blocks of
counts, as in `modelyard.statistics.evalues`: n_s and n_c predictions of stable and canary, w = n_s·n_c / (n_s + n_c).

- **alarm**, against "both arms have the same distribution p". The bet is a distribution for each arm, s and c, made
  from earlier blocks, and m = (n_s·s + n_c·c) / n their mean. With E the product over requests of s/m or c/m,

      E_p[E] = (Σ p·s/m)^n_s · (Σ p·c/m)^n_c ≤ (Σ p·(n_s·s + n_c·c) / (n·m))^n = (Σ p)^n = 1,

  since a geometric mean is at most the arithmetic mean. Classes that no earlier block has shown share one cell.
- **success**, against "the distance is at least the margin μ": then some set A of classes has d_A ≥ μ, for d_A the
  canary's chance of A less stable's. By Hoeffding's lemma, for each λ and the shares of a block,

      E_A = exp(λ·w·(μ − (share_c(A) − share_s(A))) − λ²·w / 8)

  has expectation at most 1 there, for the difference of the shares has variance proxy (1/n_c + 1/n_s)/4 = 1/(4w). All
  sets must be refuted, so nothing is shared among them, and the one that is refuted last has every class whose sum of
  w·(share_c − share_s) is above 0. So one number for each class is kept, however many sets there are.

The null is that one set is further apart than the margin all the time; what is in it may drift with the traffic.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import sub

from modelyard.rollout import bets, streams
from modelyard.rollout.evidence import Drift, Evidence, Tally, Trial
from modelyard.rollout.streams import Closed, Read, Reading, Row, Stream
from modelyard.spec.check_classes import DRIFT, MOST_CLASSES
from modelyard.statistics.evalues import log_mean

NAME = DRIFT
"""The metric."""
BELIEFS = (400.0, 200.0, 100.0, 50.0, 25.0)
"""Of the bets: requests' worth of belief that the canary predicts as stable does. The first is for small drifts."""
STAKES = (1.0, 2.0, 4.0)
"""λ of success, in margins: 4 is best where there is no drift, less where there is some."""


def look(evidence: Evidence, stable: Reading, canary: Reading, *, cap: float) -> Evidence:
    """A copy that knows one more reading of both arms; the same where one of them tells no classes.

    Args:
        evidence: what is known.
        stable: counters of stable.
        canary: counters of the canary.
        cap: evidence of success above it is not carried on.
    """
    if stable.classes is None or canary.classes is None:
        return evidence
    if not (_sane(stable.classes) and _sane(canary.classes)):
        return replace(evidence, ignored=evidence.ignored + 1)
    known = evidence.drift.labels
    labels = (*known, *sorted({*stable.classes, *canary.classes} - set(known)))
    if not labels:
        return evidence
    stream = _widened(evidence.predictions, len(labels))
    at = max(stable.at, canary.at)
    stream, block = streams.advance(stream, at, _row(stable.classes, labels), _row(canary.classes, labels))
    told = _widths(evidence.drift, labels)
    if block is None:
        return replace(evidence, predictions=stream, drift=told)
    if bets.ready(stream):
        evidence = _bet(evidence, stream, block, told, cap)
        told = evidence.drift
    return replace(evidence, predictions=streams.learn(stream, block), drift=told)


def distance(drift: Drift, stream: Stream) -> float:
    """The best estimate, less what chance alone would show."""
    if drift.weight <= 0:
        return 0.0
    apart = sum(max(0.0, each) for each in drift.sums) / drift.weight
    past = _counts(stream.stable.past)
    shares = [count / max(1, sum(past)) for count in past]
    chance = sum(math.sqrt(share * (1 - share) / (2 * math.pi * drift.weight)) for share in shares)
    return min(1.0, max(0.0, apart - chance))


def seen(evidence: Evidence) -> str:
    """Both sides in words."""
    tally = evidence.tallies[NAME]
    return (
        f"{NAME}: the classes of the canary's {tally.canary:,} predictions are {tally.canary_share:.2%} away from "
        f"those of stable's {tally.stable:,}{most(evidence)}"
    )


def most(evidence: Evidence) -> str:
    """The class whose share differs most, in parentheses; empty where nothing was compared."""
    drift, stream = evidence.drift, evidence.predictions
    if not drift.sums or not stream.canary.past or not stream.stable.past:
        return ""
    place = max(range(len(drift.sums)), key=lambda place: abs(drift.sums[place]))
    stable, canary = (_counts(arm.past) for arm in (stream.stable, stream.canary))
    here, there = (count[place] / max(1, sum(count)) for count in (stable, canary))
    return f" (most: {drift.labels[place]!r}, {there:.1%} of the canary's of late, {here:.1%} of stable's)"


def why_nothing(evidence: Evidence) -> str:
    """Why nothing could be compared; empty where something was."""
    if evidence.predictions.stable.counted:
        return ""
    if not evidence.drift.labels:
        return f"no answer named a class: the model predicts none, or more than {MOST_CLASSES}, or was packaged earlier"
    return "the answers of one arm named no class: package that version anew"


def _bet(evidence: Evidence, stream: Stream, block: Closed, drift: Drift, cap: float) -> Evidence:
    """Multiply the E-processes with what a block is worth."""
    stable, canary = _counts(block.stable), _counts(block.canary)
    here, there = sum(stable), sum(canary)
    weight = here * there / (here + there)
    apart = [weight * (c / there - s / here) for s, c in zip(stable, canary, strict=True)]
    fade = min(1.0, bets.JUDGED / (drift.weight + weight))
    drift = replace(
        drift,
        sums=tuple(round((old + new) * fade, 9) for old, new in zip(drift.sums, apart, strict=True)),
        weight=round((drift.weight + weight) * fade, 9),
    )
    after = streams.learn(stream, block)
    estimate = distance(drift, after)
    old = evidence.tallies[NAME]
    total = old.canary + there
    tally = Tally(stable=old.stable + here, canary=total, canary_hits=round(estimate * total))
    worth = worths(stream, block)

    def scored(trial: Trial) -> Trial:
        excess = round(drift.weight * (estimate - trial.margin.fraction), 9)
        return replace(tried(trial, apart, weight, cap=cap), excess=excess)

    return replace(
        evidence,
        drift=drift,
        alarms=tuple(bets.raised(one, worth) if one.metric == NAME else one for one in evidence.alarms),
        trials=tuple(scored(one) if one.metric == NAME else one for one in evidence.trials),
        tallies={**evidence.tallies, NAME: tally},
    )


def worths(stream: Stream, block: Closed) -> tuple[float, ...]:
    """Logarithms of what a block is worth to the alarm, for each bet."""
    stable, canary = _counts(stream.stable.past), _counts(stream.canary.past)
    canary = canary or [0] * len(stable)
    known = [place for place, both in enumerate(zip(stable, canary, strict=True)) if sum(both)]
    past = [*(stable[place] for place in known), 0]
    base = [(count + 0.5) / (sum(past) + 0.5 * len(past)) for count in past]
    own = [*(canary[place] for place in known), 0]
    here, there = _cells(_counts(block.stable), known), _cells(_counts(block.canary), known)
    share = sum(here) / (sum(here) + sum(there))
    logs = []
    for belief in BELIEFS:
        bet = [(count + belief * b) / (sum(own) + belief) for count, b in zip(own, base, strict=True)]
        log = 0.0
        for s, c, b, q in zip(here, there, base, bet, strict=True):
            if s or c:
                mean = share * b + (1 - share) * q
                log += s * math.log(b / mean) + c * math.log(q / mean)
        logs.append(log)
    return tuple(logs)


def tried(trial: Trial, apart: Sequence[float], weight: float, *, cap: float) -> Trial:
    """A success test after one more block.

    Above `cap` all sums shrink: as the set that is refuted last stands above it, that makes no set's E-process larger.

    Args:
        trial: the test.
        apart: of each class, w·(share of the canary − share of stable).
        weight: w.
        cap: evidence above it is not carried on.
    """
    before = (*trial.sums, *(0.0,) * (len(apart) - len(trial.sums)))
    sums, total = tuple(map(sum, zip(before, apart, strict=True))), trial.weight + weight
    log = against(sums, total, trial.margin.fraction)
    if log > cap:
        sums, total = tuple(each * cap / log for each in sums), total * cap / log
        log = against(sums, total, trial.margin.fraction)
    return replace(
        trial, sums=tuple(round(each, 9) for each in sums), weight=round(total, 9), log_e=round(min(log, cap), 9)
    )


def against(sums: Sequence[float], weight: float, margin: float) -> float:
    """Logarithm of the evidence against the set of classes that is refuted last."""
    worst = sum(max(0.0, each) for each in sums)
    logs = [stake * margin * (weight * margin - worst) - (stake * margin) ** 2 * weight / 8 for stake in STAKES]
    return log_mean(logs, (1 / len(STAKES),) * len(STAKES))


def _sane(classes: Mapping[str, int]) -> bool:
    return all(isinstance(count, int) and count >= 0 for count in classes.values())


def _row(classes: Mapping[str, int], labels: Sequence[str]) -> Read:
    """Counts as a stream takes them: cumulative over the classes, as over bounds."""
    return Read(_places(len(labels)), tuple(accumulate(classes.get(label, 0) for label in labels)))


def _places(count: int) -> tuple[float, ...]:
    return tuple(float(place) for place in range(count))


def _counts(row: Row) -> list[int]:
    """Of each class, from what is cumulative."""
    return list(map(sub, row, (0, *row)))


def _cells(counts: Sequence[int], known: Sequence[int]) -> list[int]:
    """Of the known classes, and of all others together."""
    mine = [counts[place] for place in known]
    return [*mine, sum(counts) - sum(mine)]


def _widened(stream: Stream, count: int) -> Stream:
    """A copy that knows more classes, of which nothing was counted yet."""
    more = count - len(stream.bounds)
    if not stream.bounds or not more:
        return stream
    stable, canary = (
        replace(arm, row=_longer(arm.row, more), past=_longer(arm.past, more)) for arm in (stream.stable, stream.canary)
    )
    return replace(stream, bounds=_places(count), stable=stable, canary=canary)


def _longer(row: Row, more: int) -> Row:
    return row and (*row, *(row[-1],) * more)


def _widths(drift: Drift, labels: tuple[str, ...]) -> Drift:
    return replace(drift, labels=labels, sums=(*drift.sums, *(0.0,) * (len(labels) - len(drift.sums))))
